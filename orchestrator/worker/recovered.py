"""A worker's part of HopSupSup: recover the mask of a task from the memory, and score it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels
from core.data.benchmarks import task_view
from core.data.datasets import Dataset
from core.data.test_rows import batch_counts, batch_sizes
from core.hopfield.memory import HopfieldMemory, Pattern
from core.hopfield.network import correct_with_masks, task_images
from core.hopfield.recovery import Recovery, adapting_order, recover, split_images
from core.masks.bits import unpack
from core.specs.inference import TEST_BATCH_SIZE
from orchestrator.execution.jobs import RecoveryRequest, WorkerSetup
from storage.hopfield_file import read_memory
from storage.layout import RunLayout
from storage.locations import Location
from storage.mask_store import MaskStore
from storage.tables import write_evaluation


def recover_task(
    setup: WorkerSetup,
    request: RecoveryRequest,
    task: int,
    dataset: Dataset,
    *,
    pixels: Pixels,
    base: Sequence[Tensor],
    store: MaskStore,
) -> None:
    """Recover the mask of ``task`` from its unlabelled test images and commit what it classifies.

    The task's own mask, where it is still stored, is only compared with.
    """
    memory = _memory(request.memory, setup.identity.fingerprint, setup.identity.names)
    true_mask = _true_mask(store, task)
    view = task_view(setup.spec.benchmark, dataset, task, seed=setup.spec.seed)
    adapted, scored = split_images(request.hopfield, np.arange(len(view.test_rows)))
    adapted = adapting_order(request.hopfield, adapted, seed=setup.spec.seed, task=task)
    x_NI, _ = task_images(setup.spec, task, dataset, pixels, view.test_rows[adapted])
    recovery = recover(request.hopfield, memory, x_NI, base, true_mask)

    if request.num_batches is not None:
        scored = scored[: request.num_batches * TEST_BATCH_SIZE]
    x_NI, labels_N = task_images(setup.spec, task, dataset, pixels, view.test_rows[scored])
    found = correct_with_masks(x_NI, labels_N, base, recovery.mask)
    given = None if true_mask is None else correct_with_masks(x_NI, labels_N, base, true_mask)
    _write_part(
        setup.layout,
        setup.identity.fingerprint,
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
    """Commit what became of one task: its steps first, since the other file says that it is done.

    counts: int32 columns ``first_image`` (index in the task's test set), ``num_images``,
    ``num_correct`` and ``num_correct_given`` (or None), a row a batch of scored images.
    """
    metadata = {"fingerprint": fingerprint, "k": str(request.k)}
    steps = layout.recovery_part(request.key, task, task)
    write_evaluation(steps, _steps_table(task, recovery), metadata)
    scored = layout.evaluation_part(request.key, task, task)
    write_evaluation(scored, _scored_table(task, counts), metadata)


def _counts(correct: NDArray[np.bool_] | None) -> NDArray[np.int32] | None:
    return None if correct is None else batch_counts(correct)


def _true_mask(store: MaskStore, task: int) -> tuple[Pattern, ...] | None:
    if task not in store.locate():
        return None
    return unpack(store.read(task).bits, store.identity.shapes)


@lru_cache(maxsize=1)
def _memory(path: Location, fingerprint: str, names: tuple[str, ...]) -> HopfieldMemory:
    """Keep the memory last read: tens of megabytes, the same for every task of a question."""
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
