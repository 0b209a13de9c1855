"""``supsup status --address``: the jobs of a cluster, with the progress of their runs."""

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from core.errors import RunFolderError
from orchestrator.cli.status import eta_words, live_words, rate_words
from orchestrator.report.text import print_plain
from orchestrator.status import RunStatus, run_status
from storage.locations import to_location

if TYPE_CHECKING:
    from orchestrator.cluster.jobs import JobState  # imports ray

INDENT = 2
OBVIOUS = ("running", "succeeded", "stopped")  # states of which Ray's message adds nothing


def print_jobs(console: Console, address: str, job: str | None) -> None:
    """Print our jobs on the cluster: state, progress where the run folder can be read, and that folder."""
    from orchestrator.cluster.jobs import job_states

    found = job_states(address, job)
    if not found:
        print_plain(console, f"no supsup jobs on {address}")
    for state in found:
        _print_job(console, state)


def _print_job(console: Console, state: "JobState") -> None:
    print_plain(console, state.job)  # whole lines, for copying
    lines = [", ".join([*_state_words(state), *_progress_words(_status(state.folder))])]
    lines += [] if state.state in OBVIOUS else [f"Ray: {state.message}"]
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, INDENT)))
    if state.folder is not None:
        print_plain(console, f"{' ' * INDENT}run folder {state.folder}")


def _state_words(state: "JobState") -> list[str]:
    words = [state.state if state.code is None else f"{state.state} with exit code {state.code}"]
    if state.started_s is not None:
        words.append(f"started {time.strftime('%Y-%m-%d %H:%M', time.localtime(state.started_s))}")
    return words


def _status(folder: str | None) -> RunStatus | None:
    """Return the status of a job's run, None if there is no folder yet or it cannot be read from here."""
    try:
        return None if folder is None else run_status(to_location(folder))
    except (RunFolderError, OSError):
        return None


def _progress_words(found: RunStatus | None) -> list[str]:
    if found is None:
        return []
    failed = [f"{found.num_failed} failed"] if found.num_failed else []
    pace = [] if found.tasks_per_min is None else [rate_words(found), f"ETA {eta_words(found)}"]
    done = f"{found.progress} done" if found.live is None else live_words(found.live)
    return [done, *failed, *pace]
