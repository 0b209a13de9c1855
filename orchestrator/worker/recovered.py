"""HopSupSup: recover the mask of a task from the memory, and test it."""

from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.data.test_rows import batch_counts, batch_sizes
from core.hopfield.memory import HopfieldMemory, Pattern
from core.hopfield.network import correct_with_masks, task_images
from core.hopfield.recovery import OnStep, Recovery, adapting_order, ignore_step, recover, split_images
from core.masks.bits import unpack
from core.specs.inference import TEST_BATCH_SIZE
from orchestrator.execution.jobs import Job, JobResult, RecoveryRequest, parts_of
from orchestrator.worker.base import WorkerContext
from orchestrator.worker.checkpointer import JobSteps
from storage.hopfield_file import read_memory
from storage.layout import RunLayout
from storage.locations import Location
from storage.mask_store import MaskStore
from storage.tables import write_evaluation


class Recovered:
    """A ``Handler``: recovers the masks of tasks from their unlabelled test images."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def run(self, job: Job) -> JobResult:
        """See ``Handler``."""
        for task in job.tasks:
            recover_task(self._context, job, task, JobSteps(self._context, job).report)
        return JobResult()


def recover_task(context: WorkerContext, job: Job, task: int, on_step: OnStep = ignore_step) -> None:
    """Recover the mask of ``task`` from its unlabelled test images, test it and commit the result.

    The task's true mask, if still stored, serves for comparison only.
    """
    request = job.request
    assert isinstance(request, RecoveryRequest), "a job of kind recover asks something"
    problem, identity, seed = context.problem, context.setup.identity, context.setup.spec.seed
    memory = _memory(request.memory, identity.fingerprint, identity.names)
    true_mask = _true_mask(context.store, job, task)
    rows = problem.view(task).test_rows
    adapted, scored = split_images(request.hopfield, np.arange(len(rows)))
    adapted = adapting_order(request.hopfield, adapted, seed=seed, task=task)
    x_NI, _ = task_images(problem, task, problem.test, rows[adapted])
    recovery = recover(request.hopfield, memory, x_NI, problem.base, true_mask, on_step=on_step)

    if request.num_batches is not None:
        scored = scored[: request.num_batches * TEST_BATCH_SIZE]
    x_NI, labels_N = task_images(problem, task, problem.test, rows[scored])
    found = correct_with_masks(x_NI, labels_N, problem.base, recovery.mask)
    given = None if true_mask is None else correct_with_masks(x_NI, labels_N, problem.base, true_mask)
    _write_part(
        context.setup.layout,
        identity.fingerprint,
        request,
        task=task,
        recovery=recovery,
        counts={
            "first_image": scored[::TEST_BATCH_SIZE].astype(np.int32),
            "num_images": batch_sizes(len(scored)),
            "num_correct": batch_counts(found),
            "num_correct_given": _counts(given),
        },
    )


def _write_part(
    layout: RunLayout,
    fingerprint: str,
    request: RecoveryRequest,
    *,
    task: int,
    recovery: Recovery,
    counts: dict[str, Any],
) -> None:
    """Commit the result of one task: steps first, since the other file marks the task as done.

    counts: int32 columns ``first_image`` (index in the task's test set), ``num_images``,
    ``num_correct`` and ``num_correct_given`` (or None), one row per batch of scored images.
    """
    metadata = parts_of(request, layout, fingerprint).metadata
    steps = layout.recovery_part(request.key, task, task)
    write_evaluation(steps, _steps_table(task, recovery), metadata)
    scored = layout.evaluation_part(request.key, task, task)
    write_evaluation(scored, _scored_table(task, counts), metadata)


def _counts(correct: NDArray[np.bool_] | None) -> NDArray[np.int32] | None:
    return None if correct is None else batch_counts(correct)


def _true_mask(store: MaskStore, job: Job, task: int) -> tuple[Pattern, ...] | None:
    files = store.named(job.files)
    if task not in files:
        return None
    (bits,) = store.iterate_bits([task], files)
    return unpack(bits, store.identity.shapes)


@lru_cache(maxsize=1)
def _memory(path: Location, fingerprint: str, names: tuple[str, ...]) -> HopfieldMemory:
    """Read the memory, cached: tens of megabytes, the same for all tasks of a request."""
    return read_memory(path, fingerprint, names)


def _steps_table(task: int, recovery: Recovery) -> pa.Table:
    num = len(recovery.energy)
    return pa.table(
        {
            "task": np.full(num, task, dtype=np.int32),
            "step": np.arange(num, dtype=np.int32),
            "hamming": pa.nulls(num, pa.int32()) if recovery.hamming is None else recovery.hamming,
            "energy": recovery.energy,
            "entropy": [*recovery.entropy.tolist(), None],
        }
    )


def _scored_table(task: int, counts: dict[str, Any]) -> pa.Table:
    num = len(counts["num_correct"])
    given = counts["num_correct_given"]
    return pa.table(
        {
            "task": np.full(num, task, dtype=np.int32),
            "batch": np.arange(num, dtype=np.int32),
            "first_image": counts["first_image"],
            "num_images": counts["num_images"],
            "inferred_task": pa.nulls(num, pa.int32()),
            "num_correct": counts["num_correct"],
            "num_correct_given": pa.nulls(num, pa.int32()) if given is None else given,
        }
    )
