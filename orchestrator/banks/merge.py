"""``supsup merge``: the tasks of several folders of one run, as one folder.

A mask depends on the run and its task alone, so tasks that were trained apart are the bits of one folder that trained
all. Whatever would make that untrue is refused before anything is written.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.errors import DamagedFileError, RunFolderError, plural
from orchestrator.config.load import config_values
from orchestrator.execution.plan import MAX_RANGES
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.lock import locked
from orchestrator.runs.nearest import changed_keys
from orchestrator.runs.run import Run, open_run
from orchestrator.stages import require_independent, training_stage
from storage.files import commit_bytes
from storage.layout import RunLayout, run_folder_name
from storage.locations import Location, location_uri, plain_file
from storage.mask_copy import copy_masks, tasks_of
from storage.mask_facts import MaskFacts
from storage.run_file import RunRecord, write_run

SHOWN = 12  # hex digits of a digest in a message
ALIKE = ("dataset_digest", "part_digests", "code")  # of the provenance: what the fingerprint does not cover


@dataclass(frozen=True, kw_only=True)
class Merged:
    """root: the merged folder. num_tasks: with a mask there. added: by source, tasks that were copied. notes: for the user."""

    root: Location
    num_tasks: int
    added: tuple[tuple[Location, int], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A verified folder of the run. facts: of its masks."""

    run: Run
    record: RunRecord
    facts: MaskFacts

    @property
    def root(self) -> Location:
        return self.run.layout.root

    def digests(self) -> dict[int, str]:
        """Return the digest of each mask, empty for a forgotten task."""
        return self.facts.digest_of | dict.fromkeys(self.facts.files.forgotten, "")


def merge_runs(roots: Sequence[Location], storage: Location) -> Merged:
    """Merge run folders into the folder of that run under ``storage``, which may be there and have some of the tasks.

    Raises RunFolderError, with all conflicts, before anything is written.
    """
    sources = [_read(root) for root in roots]
    first = sources[0]
    layout = RunLayout(storage / run_folder_name(first.run.config.name, first.run.fingerprint))
    there = [_read(layout.root)] if layout.run_file.exists() else []
    for other in [*there, *sources[1:]]:
        _require_alike(first, other)
    _require_no_conflict([*there, *sources])
    target, record = _target([*there, *sources], first, layout)
    with locked(layout):
        write_run(layout, record)
        added = [(one.root, _copy(one, target)) for one in sources if one.root != layout.root]
    num_tasks = len(target.store.locate())
    return Merged(root=layout.root, num_tasks=num_tasks, added=tuple(added), notes=tuple(_notes(sources)))


def _read(root: Location) -> _Source:
    """Open a run and verify its masks, every byte."""
    run, record = open_run(root)
    require_independent(run.config, str(root))
    if not training_stage(run.config).has_masks:
        raise RunFolderError(f"{root} has no masks")
    facts = run.store.verified_facts()
    for error in facts.problems.values():
        repair = supsup_command("verify", root, "--repair", config=run.config)
        again = supsup_command("run", root, config=run.config)
        raise DamagedFileError(f"{error}; `{repair}` and `{again}` mend it")
    return _Source(run, record, facts)


def _require_alike(first: _Source, other: _Source) -> None:
    """Raise RunFolderError unless both are folders of one run, made on the same data and code."""
    pair = f"{first.root} and {other.root}"
    if other.run.fingerprint != first.run.fingerprint:
        changes = changed_keys(first.run.config, other.run.config) or (
            "made by versions that train differently",
        )
        raise RunFolderError(
            f"{pair} are different runs, whose masks do not belong together: {', '.join(changes)}"
        )
    for key in ALIKE:
        mine, others = _made_on(key, first, other)
        if mine != others:
            raise RunFolderError(
                f"{pair} were made on different data or code: {key} is {str(mine)[:40]} and {str(others)[:40]}"
            )


def _made_on(key: str, *sources: _Source) -> list[Any]:
    """Return what each was made on; of a folder of tasks, which grows, as far as all of them had it."""
    found = [one.record.provenance.get(key) for one in sources]
    if not all(one.run.config.benchmark.kind == "files" for one in sources):
        return found
    if key == "part_digests":
        lists = [parts or [] for parts in found]
        return [parts[: min(map(len, lists))] for parts in lists]
    return [None for _ in found] if key == "dataset_digest" else found


def _require_no_conflict(sources: Sequence[_Source]) -> None:
    """Raise RunFolderError if a task has different masks, or is forgotten in one folder and trained in another."""
    seen: defaultdict[int, dict[str, Location]] = defaultdict(dict)
    for source in sources:
        for task, digest in source.digests().items():
            seen[task].setdefault(digest, source.root)
    conflicts = [_conflict(task, found) for task, found in sorted(seen.items()) if len(found) > 1]
    if conflicts:
        more = len(conflicts) - MAX_RANGES
        lines = conflicts[:MAX_RANGES] + ([f"and {more} more"] if more > 0 else [])
        raise RunFolderError(
            f"{plural(len(conflicts), 'conflict')}, so nothing was written:\n  " + "\n  ".join(lines)
        )


def _conflict(task: int, found: Mapping[str, Location]) -> str:
    words = [
        f"{digest[:SHOWN] + '...' if digest else 'forgotten'} in {root}" for digest, root in found.items()
    ]
    return f"task {task}: {', '.join(words)}"


def _target(sources: Sequence[_Source], first: _Source, layout: RunLayout) -> tuple[Run, RunRecord]:
    """Return the merged run and its record: the sweep that asks for most tasks, under the first one's name."""
    most = max(sources, key=lambda one: one.record.num_tasks)
    storage = replace(most.run.config.storage, uri=location_uri(layout.root.parent))
    config = replace(most.run.config, name=first.run.config.name, storage=storage)
    data = {key: most.record.provenance[key] for key in ALIKE if key in most.record.provenance}
    provenance = sources[0].record.provenance | data
    record = replace(
        sources[0].record,
        num_tasks=most.record.num_tasks,
        config=config_values(config),
        provenance=provenance,
    )
    return replace(first.run, config=config, layout=layout), record


def _copy(source: _Source, target: Run) -> int:
    """Copy the masks and tombstones that the target does not have yet; return the number of masks."""
    files, there, num_copied = source.facts.files, target.store.locate(), 0
    for name in files.names:
        mine = [task for task in tasks_of(name) if task in files and files.name_of(task) == name]
        missing = [task for task in mine if task not in there]
        if missing:
            copy_masks(source.run.store, name, missing, target.store)
            num_copied += len(missing)
    for task in files.forgotten:
        tombstone = target.layout.tombstone(task)
        if not tombstone.exists():
            commit_bytes(tombstone, plain_file(source.run.layout.tombstone(task)).read_bytes())
    return num_copied


def _notes(sources: Sequence[_Source]) -> Iterator[str]:
    made = {words for one in sources for words in one.facts.made_by}
    if len(made) > 1:
        yield (
            "the masks were not all made in the same way (engine, device, torch, instructions, BLAS), so one machine "
            "alone might have made other bits: " + "; ".join(", ".join(words) for words in sorted(made))
        )
