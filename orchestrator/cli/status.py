"""``supsup status``: a table of runs, or the details of one, once or continuously."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import count
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from core.errors import RunFolderError, plural
from orchestrator.report.text import duration, percent, print_plain
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.forgotten import forgotten_words
from orchestrator.runs.live import LiveProgress
from orchestrator.status import RunStatus, run_status
from storage.locations import Location, to_location

WATCH_S = 2.0


def print_status(console: Console, roots: Sequence[Location], storage: str, *, watch: bool = False) -> None:
    """Print one row per run, and the details of a single run. watch: refresh until all have ended."""
    if not roots:
        print_plain(
            console,
            f"no runs in {to_location(storage)}; start one with `{supsup_command('run', 'SWEEP.yaml')}`",
        )
    elif watch:
        _watch(console, roots)
    else:
        console.print(_view(roots, _statuses(roots)))


def _watch(console: Console, roots: Sequence[Location]) -> None:
    with Live(console=console, auto_refresh=False) as live:
        for number in count():
            if number:
                time.sleep(WATCH_S)
            statuses = _statuses(roots)
            live.update(_view(roots, statuses), refresh=True)
            if not any(isinstance(found, RunStatus) and found.holder for found in statuses):
                return


def _statuses(roots: Sequence[Location]) -> list[RunStatus | RunFolderError]:
    """Return the status of each run, each read once, or why it cannot be read. Raises it of a single run."""
    found: list[RunStatus | RunFolderError] = []
    for root in roots:
        try:
            found.append(run_status(root))
        except RunFolderError as error:
            if len(roots) == 1:
                raise
            found.append(error)
    return found


def _view(roots: Sequence[Location], statuses: Sequence[RunStatus | RunFolderError]) -> RenderableType:
    table = _table(roots, statuses)
    if len(statuses) > 1 or not isinstance(statuses[0], RunStatus):
        return table
    return Group(table, *_details(statuses[0]))


def _table(roots: Sequence[Location], statuses: Sequence[RunStatus | RunFolderError]) -> Table:
    # Names are never cut, for copying; narrow gaps make it fit into 80 columns.
    name = Column("run", min_width=max(len(root.name) for root in roots))
    heads = ("done", "failed", "left", "accuracy", "rate", "ETA", "state")
    table = Table(name, *heads, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for root, found in zip(roots, statuses, strict=True):
        if isinstance(found, RunFolderError):
            table.add_row(root.name, *["-"] * 6, str(found))
            continue
        accuracy = found.mean_accuracy
        table.add_row(
            root.name,
            done_words(found),
            str(found.num_failed),
            str(found.num_left),
            "-" if accuracy is None else percent(accuracy),
            rate_words(found),
            eta_words(found),
            found.state,
        )
    return table


def rate_words(found: RunStatus) -> str:
    """Return the rate as text, "-" if there is none."""
    return "-" if found.tasks_per_min is None else f"{found.tasks_per_min:.1f}/min"


def eta_words(found: RunStatus) -> str:
    """Return the time left as text, "-" if it is unknown."""
    return "-" if found.eta_s is None else duration(found.eta_s)


def live_words(live: LiveProgress) -> str:
    """Return what the controller is doing: training 3/10 tasks, step 412 of 1,000."""
    words = f"{live.verb} {live.num_done:,}/{plural(live.num_total, live.unit.removesuffix('s'))}"
    return words if live.num_steps is None else f"{words}, step {live.num_steps_done:,} of {live.num_steps:,}"


def done_words(found: RunStatus) -> str:
    """Return the progress as text: done/total."""
    progress = found.progress
    unit = "" if progress.unit == "tasks" else f" {progress.unit}"
    return f"{progress.num_done}/{progress.num_total}{unit}"


def _details(found: RunStatus) -> Iterator[RenderableType]:
    if found.progress.num_total and found.holder:
        line = Table.grid(expand=True)
        line.add_row(ProgressBar(total=found.progress.num_total, completed=found.progress.num_done))
        yield line
    if found.holder:
        yield Text(
            f"at work: {found.holder}; {plural(found.num_workers, 'worker')} stored masks in the last ten minutes"
        )
    if found.live is not None:
        yield Text(live_words(found.live))
    if found.last:
        words = ", ".join(f"task {task} {percent(accuracy)}" for task, accuracy in found.last)
        yield Text(f"finished last: {words}")
    forgotten = forgotten_words(found.progress.forgotten)
    if forgotten is not None:
        yield Text(forgotten)
    if found.error is not None:
        yield Text(f"failed: {found.error}", style="red")


def status_json(found: Sequence[RunStatus]) -> str:
    """Return the status of runs as indented JSON."""
    return json.dumps([status_row(one) for one in found], indent=2)


def status_row(one: RunStatus) -> dict[str, Any]:
    """Return the status of a run as plain values."""
    return {
        "run": one.run.name,
        "folder": str(one.run.layout.root),
        "state": one.state,
        "unit": one.progress.unit,
        "num_tasks": one.progress.num_total,
        "num_done": one.progress.num_done,
        "num_failed": one.num_failed,
        "num_left": one.num_left,
        "forgotten": sorted(one.progress.forgotten),
        "mean_accuracy": one.mean_accuracy,
        "tasks_per_min": one.tasks_per_min,
        "eta_s": one.eta_s,
        "num_workers": one.num_workers,
        "live": None if one.live is None else asdict(one.live),
        "error": one.error,
    }
