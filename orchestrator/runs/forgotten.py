"""What a run says of its forgotten tasks: the words of their tombstones, and masks that are still there."""

import time
from collections.abc import Collection

from core.errors import DamagedFileError, plural
from orchestrator.execution.plan import number_ranges
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.run import Run
from storage.mask_copy import tasks_of
from storage.mask_files import MaskFiles
from storage.tombstone import read_tombstone
from storage.verify import Problem


def forgotten_words(tasks: Collection[int]) -> str | None:
    """Return which tasks are forgotten, as text; None if there are none."""
    if not tasks:
        return None
    verb = "was" if len(tasks) == 1 else "were"
    return (
        f"{plural(len(tasks), 'task')} {verb} forgotten, and {verb} not trained again: {number_ranges(tasks)}"
    )


def tombstone_lines(run: Run, tasks: Collection[int]) -> tuple[list[str], list[Problem]]:
    """Return a line for each tombstone, and the problems of those that cannot be read."""
    lines, problems = list[str](), list[Problem]()
    for task in sorted(tasks):
        try:
            found = read_tombstone(run.layout, task)
        except (DamagedFileError, OSError) as error:
            path = run.layout.tombstone(task)
            problems.append(
                Problem(kind="damaged", path=None, message=f"{error}; task {task} stays forgotten: {path}")
            )
            continue
        when = time.strftime("%Y-%m-%d", time.gmtime(found.forgotten_s))
        lines.append(f"task {task}: forgotten on {when}" + (f" ({found.reason})" if found.reason else ""))
    return lines, problems


def not_gone(run: Run, files: MaskFiles) -> list[Problem]:
    """Return a problem for each forgotten task whose mask is still in a file, as after a crash."""
    return [
        Problem(
            kind="stale",
            path=None,
            message=f"task {task} was forgotten, but its mask is still in {files.folder / name}; "
            f"`{supsup_command('forget', run.layout.root, '--task', task)}` removes it",
        )
        for name in files.names
        for task in tasks_of(name)
        if task in files.forgotten
    ]
