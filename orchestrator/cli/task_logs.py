"""Prints the logs of a run's jobs: attempts of tasks that failed at least once."""

import re

from rich.console import Console

from core.errors import RunFolderError
from orchestrator.report.text import print_plain
from orchestrator.status import resolve_run
from storage.layout import RunLayout
from storage.locations import Location, listed, plain_file

_NAME = re.compile(r"[a-z]+-(\d+)-(\d+)\.log")


def find_run(target: str, storage: str) -> Location | None:
    """Return the run folder named ``target``, None if there is none."""
    try:
        return resolve_run(target, storage)
    except RunFolderError:
        return None


def print_task_logs(console: Console, root: Location, task: int | None) -> None:
    """Print all logs of a run, or those about one task."""
    layout = RunLayout(root)
    found = [path for path in listed(layout.logs) if task is None or _is_about(path.name, task)]
    for path in found:
        print_plain(console, plain_file(path).read_bytes().decode(errors="replace").rstrip())
    if not found:
        whom = "no task ever" if task is None else f"task {task} never"
        print_plain(console, f"{whom} failed in {root}")


def _is_about(name: str, task: int) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and int(match[1]) <= task <= int(match[2])
