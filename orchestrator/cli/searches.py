"""What the commands for runs do with the folder of a search: the same for each of its points."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from core.errors import RunFolderError, SupSupError, first_line, plural
from orchestrator.cli.status import WATCH_S, done_words, status_row
from orchestrator.config.store_uri import chosen_store
from orchestrator.report.text import percent, print_plain, short
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.search_file import Point, find_searches, read_points
from orchestrator.search.metrics import value_words
from orchestrator.search.stored import StoredSearch, read_search, search_results
from orchestrator.status import RunStatus, status_of
from storage.locations import Location


@dataclass(frozen=True, kw_only=True)
class _PointStatus:
    """A point and the status of its run; None and why not, if it has not begun or is unreadable."""

    point: Point
    found: RunStatus | None
    why_not: str = "not begun"

    @property
    def state(self) -> str:
        """The state, as text."""
        if self.found is None:
            return self.why_not
        early = {"stopped": "ended early", "failed": "failed"}.get(self.point.state)
        return early if early and self.found.state == "stopped" else self.found.state


def print_search_status(console: Console, folder: Location, *, watch: bool) -> None:
    """Print a row per point: its settings, tasks, accuracy, run folder. watch: until none is at work."""
    if not watch:
        console.print(_table(folder))
        return
    with Live(console=console, auto_refresh=False) as live:
        num_idle = 0
        for number in count():
            if number:
                time.sleep(WATCH_S)
            live.update(_table(folder), refresh=True)
            is_busy = any(one.found and one.found.holder for one in _statuses(read_search(folder)))
            num_idle = 0 if is_busy else num_idle + 1
            if num_idle > 1:  # between two points none is at work
                return


def search_status_json(folder: Location) -> str:
    """Return the status of each point as indented JSON."""
    rows = [
        {
            "settings": one.point.values,
            **(
                status_row(one.found)
                if one.found
                else {"run": one.point.root.name, "folder": str(one.point.root)}
            ),
            "state": one.state,
        }
        for one in _statuses(read_search(folder))
    ]
    return json.dumps(rows, indent=2)


def print_searches(console: Console, storage: str) -> None:
    """Print a line per search in a storage folder: what shows the settings of its points."""
    for folder in find_searches(storage):
        try:
            points = plural(len(read_points(folder)), "point")
        except RunFolderError as error:
            print_plain(console, str(error))
            continue
        print_plain(
            console, f"{folder.name}, a search of {points}: {supsup_command('status', short(folder))}"
        )


def verify_search(
    console: Console, folder: Location, *, repair: bool, quick: bool = False, deep: bool = False
) -> bool:
    """Verify the run of each point, once if points share it; return whether all is well."""
    from orchestrator.cli.results import verify_and_print

    search, is_clean = read_search(folder), True
    for point in {point.root: point for point in search.points}.values():
        if search.run_of(point) is None:
            print_plain(console, f"{point}: not begun")
            is_clean = False
            continue
        print_plain(console, f"{point}:")
        is_partial = point.state == "stopped"
        is_clean &= verify_and_print(
            console, point.root, repair=repair, is_partial=is_partial, quick=quick, deep=deep
        )
    return is_clean


def remake_report(console: Console, folder: Location) -> None:
    """Draw the figures of a search again and write its page, from what its run folders have now."""
    from orchestrator.search.page import PAGE
    from orchestrator.search.summary import report_search

    search = read_search(folder)
    figures = report_search(search.config, search_results(search))
    print_plain(console, f"drew {plural(len(figures), 'figure')}; open {short(folder / PAGE)}")


def sync_search(console: Console, folder: Location, uri: str | None, also: Sequence[str] = ()) -> None:
    """Send the runs of a search to their trackers, then the search to MLflow. Raises ConfigError, SupSupError."""
    from orchestrator.cli.display import make_display
    from orchestrator.search.summary import report_search, send_search
    from orchestrator.tracking.sync import sync_run

    search, num_sent, display = read_search(folder), 0, make_display(console)
    tracking = search.config.tracking
    is_sent_there = bool(uri or tracking.uri) or not (also or tracking.also)
    store = chosen_store(folder.name, uri, tracking.uri) if is_sent_there else None
    names = (*(tracking.also or ()), *also)
    for root in sorted({point.root for point in search.points if search.run_of(point)}):
        num_sent += sync_run(root, uri or store, display, names)[1]
    for name in dict.fromkeys(names):
        print_plain(console, f"the runs of {folder.name} are in {name}")
    if store is None:
        return
    results = search_results(search)
    try:
        send_search(store, search.config, results, report_search(search.config, results), display)
    except Exception as error:  # MLflow, its database and its server raise errors of any type
        raise SupSupError(
            f"MLflow at {store} did not accept {folder.name}: {first_line(error)[:200]}; run the same command "
            "again to resume"
        ) from error
    print_plain(console, f"{folder.name} is in MLflow at {store}; {plural(num_sent, 'task')} got a run")


def print_search_logs(console: Console, folder: Location, task: int | None) -> None:
    """Print the logs of each point's run."""
    from orchestrator.cli.task_logs import print_task_logs

    for point in {point.root: point for point in read_points(folder)}.values():
        print_plain(console, f"{point}:")
        print_task_logs(console, point.root, task)


def _statuses(search: StoredSearch) -> Iterator[_PointStatus]:
    for point in search.points:
        try:
            run = search.run_of(point)
            yield _PointStatus(point=point, found=None if run is None else status_of(run))
        except RunFolderError as error:
            yield _PointStatus(point=point, found=None, why_not=str(error))


def _table(folder: Location) -> Table:
    search = read_search(folder)
    keys = [dimension.key for dimension in search.search.dimensions]
    heads = [dimension.name for dimension in search.search.dimensions]
    name = Column("run folder", min_width=max(len(point.root.name) for point in search.points))
    table = Table(*heads, "done", "accuracy", "state", name, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for one in _statuses(search):
        table.add_row(
            *(value_words(one.point.values.get(key, "-")) for key in keys),
            *_cells(one, search.num_tasks(one.point)),
            one.point.root.name,
        )
    return table


def _cells(one: _PointStatus, num_tasks: int) -> tuple[str, str, str]:
    if one.found is None:
        return f"0/{num_tasks}", "-", one.state
    accuracy = one.found.mean_accuracy
    return done_words(one.found), "-" if accuracy is None else percent(accuracy), one.state
