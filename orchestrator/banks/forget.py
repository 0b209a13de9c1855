"""``supsup forget``: takes tasks out of a run for good, exactly.

A mask depends on its task alone, so without it every other answer is that of a run that never had it. The order makes
a crash harmless: the tombstones come first, and from then on the masks do not count; running it again finishes.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from core.errors import RunFolderError
from orchestrator.banks.traces import remove_traces
from orchestrator.evaluate import EvaluationResult, data_location, evaluate_run
from orchestrator.execution.progress import Display
from orchestrator.runs.dataset import run_dataset
from orchestrator.runs.history import drop_failures
from orchestrator.runs.lock import locked
from orchestrator.runs.run import Run, open_run, require_run_code
from orchestrator.stages import training_stage
from storage.locations import Location, listed
from storage.mask_copy import copy_masks, tasks_of
from storage.mask_facts import MaskFacts
from storage.tombstone import Tombstone, write_tombstone

MEMORY = "a Hopfield memory holds the mask added to all others, and Storkey's rule cannot take it out again"
OTHER_WAY = "to be without it means to train a new run without that task"


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was done. digests: of the masks that were removed, None where there was none.

    rewritten: mask files that held them. num_removed: derived files and folders. lost_tables: names of tables that
    were not made anew. result: of the evaluation, None without one.
    """

    run: Run
    digests: dict[int, str | None]
    rewritten: tuple[str, ...]
    num_removed: int
    lost_tables: tuple[str, ...]
    result: EvaluationResult | None


def forget_tasks(
    root: Location,
    tasks: Collection[int],
    data_folder: Path | None,
    display: Display,
    *,
    reason: str | None = None,
    evaluate: bool = True,
) -> Forgotten:
    """Forget tasks of a run, and make its tables anew unless ``evaluate`` is false.

    data_folder: the user's data sets. Raises RunFolderError where tasks depend on each other, and other errors of the
    input; nothing is written then.
    """
    run, record = open_run(root)
    _require_forgettable(run)
    if evaluate:
        require_run_code(run)
        run_dataset(run, record, data_location(run.config, data_folder))  # or tables could not be made anew
    with locked(run.layout):
        before = _tables(run)
        facts = run.store.facts()
        held = _holding(run, facts, tasks)
        digests = _bury(run, facts, tasks, reason)
        for name in held:
            _rewrite(run, facts, name, tasks)
        num_removed = len(remove_traces(run, tasks))
        drop_failures(run, tasks)
    is_left = before - _tables(run) and run.store.locate().leading
    result = _evaluate(run, data_folder, display) if evaluate and is_left else None
    return Forgotten(
        run=run,
        digests=digests,
        rewritten=held,
        num_removed=num_removed,
        lost_tables=tuple(sorted(before - _tables(run))),
        result=result,
    )


def _require_forgettable(run: Run) -> None:
    """Raise RunFolderError where other files than its own mask hold something of a task."""
    tie = MEMORY if run.config.network.traits.in_memory else training_stage(run.config).tie
    if tie is not None:
        raise RunFolderError(f"{run.layout.root}: {tie}, so no task can be taken out exactly; {OTHER_WAY}")


def _tables(run: Run) -> set[str]:
    return {path.stem for path in listed(run.layout.evaluations, "*.parquet")}


def _holding(run: Run, facts: MaskFacts, tasks: Collection[int]) -> tuple[str, ...]:
    """Return the names of all files that hold one of the tasks, verified. Raises DamagedFileError or ForeignFileError."""
    held = tuple(name for name in facts.files.names if not set(tasks).isdisjoint(tasks_of(name)))
    for name in held:
        run.store.check(run.layout.masks / name)
    return held


def _bury(run: Run, facts: MaskFacts, tasks: Collection[int], reason: str | None) -> dict[int, str | None]:
    """Write the tombstones that are not there yet; return the digests of the masks that they stand for."""
    known = facts.digest_of
    for task in sorted(set(tasks) - facts.files.forgotten):
        tombstone = Tombstone(task=task, digest=known.get(task), forgotten_s=time.time(), reason=reason)
        write_tombstone(run.layout, tombstone)
    return {task: known.get(task) for task in sorted(tasks)}


def _rewrite(run: Run, facts: MaskFacts, name: str, tasks: Collection[int]) -> None:
    """Write the other masks of a file to files of their own, then remove it."""
    files = facts.files
    kept = [
        task for task in tasks_of(name) if task not in tasks and task in files and files.name_of(task) == name
    ]
    if kept:
        copy_masks(run.store, name, kept, run.store)
    (run.layout.masks / name).unlink()


def _evaluate(run: Run, data_folder: Path | None, display: Display) -> EvaluationResult:
    """Make the tables anew that the run's sweep asks for, and the report if there was one."""
    scenarios = ",".join(run.config.evaluation.asked)
    return evaluate_run(run.layout.root, [f"evaluation.scenarios=[{scenarios}]"], data_folder, display)
