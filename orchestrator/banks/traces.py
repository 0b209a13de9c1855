"""Every place of a run folder that may hold something of a task besides its mask file, to be removed with it."""

import re
from collections.abc import Collection, Iterator

from orchestrator.runs.run import Run
from storage.files import temporaries
from storage.layout import RunLayout, TableKey
from storage.locations import Location, listed, remove_tree
from storage.mask_copy import tasks_of

_JOB = re.compile(r"[a-z_]+-(\d+)-(\d+)\b.*")  # logs and checkpoints are named after the tasks of a job
_QUARANTINED = re.compile(r"(cohort-\d+-\d+\.parquet)(\.\d+)?")


def remove_traces(run: Run, tasks: Collection[int]) -> list[Location]:
    """Remove the derived files of a run that tell of ``tasks``; return them. Mask files are left as they are.

    Tables over fewer tasks, and checkpoints and logs of others, stay.
    """
    found = [*_traces(run.layout, tasks)]
    for path in found:
        remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return found


def _traces(layout: RunLayout, tasks: Collection[int]) -> Iterator[Location]:
    yield from _tables(layout.evaluations, tasks)
    yield from _tables(layout.evaluations / "parts", tasks)
    for folder in (layout.report, layout.root / "trackers", layout.banks):
        if folder.exists():
            yield folder
    for folder in (layout.saves, layout.logs):
        yield from (path for path in listed(folder) if _is_of(path.name, tasks))
    yield from (path for path in listed(layout.quarantine) if _may_hold(path.name, tasks))
    yield from temporaries(layout.root)
    yield from (path for path in (layout.facts, layout.card, layout.signature) if path.exists())


def _tables(folder: Location, tasks: Collection[int]) -> Iterator[Location]:
    """Yield the tables, or folders of parts, over a k that covers one of the tasks."""
    for path in listed(folder):
        key = TableKey.parse(path.name.removesuffix(".parquet"))
        if key is not None and key.k > min(tasks):
            yield path


def _is_of(name: str, tasks: Collection[int]) -> bool:
    match = _JOB.fullmatch(name)
    return match is None or any(int(match[1]) <= task <= int(match[2]) for task in tasks)


def _may_hold(name: str, tasks: Collection[int]) -> bool:
    """Return whether a quarantined file may hold a task: a mask file says which, any other may be made from all."""
    match = _QUARANTINED.fullmatch(name)
    return match is None or not set(tasks).isdisjoint(tasks_of(match[1]))
