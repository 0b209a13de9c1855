"""Logs of jobs that failed at least once, as `supsup logs RUN` shows them."""

import re

from rich.console import Console

from core.errors import RunFolderError
from orchestrator.measured_tables import say
from orchestrator.status import resolve_run
from storage.layout import RunLayout
from storage.places import listed

_NAME = re.compile(r"[a-z]+-(\d+)-(\d+)\.log")


def is_run(target: str, storage: str) -> bool:
    """Tell whether ``target`` names a run folder."""
    try:
        resolve_run(target, storage)
    except RunFolderError:
        return False
    return True


def print_task_logs(console: Console, target: str, storage: str, task: int | None) -> None:
    """Print each log of a run, or of one task of it."""
    layout = RunLayout(resolve_run(target, storage))
    found = [path for path in listed(layout.logs) if task is None or _is_about(path.name, task)]
    for path in found:
        say(console, path.read_text().rstrip())
    if not found:
        whom = "no task" if task is None else f"task {task} never"
        say(
            console,
            f"{whom} failed in {layout.root}" if task is not None else f"{whom} ever failed in {layout.root}",
        )


def _is_about(name: str, task: int) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and int(match[1]) <= task <= int(match[2])
