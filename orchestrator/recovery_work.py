"""A worker's part of HopSupSup: recover the mask of a task from the memory, and score it."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.benchmarks import task_view
from core.datasets import Dataset
from core.evaluation_batches import batch_counts
from core.hopfield import HopfieldMemory, Pattern
from core.inputs import Pixels
from core.masks import unpack
from core.output_masks import correct_with_masks, task_images
from core.recovery import recover, split_images
from core.specs import TEST_BATCH_SIZE
from orchestrator.jobs import RecoveryQuestion, WorkerSetup
from orchestrator.recovery_tables import scored_counts, write_recovery_part
from storage.hopfield_file import read_memory
from storage.mask_store import MaskStore


def recover_task(
    setup: WorkerSetup,
    question: RecoveryQuestion,
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
    memory = _memory(question.memory, setup.identity.fingerprint, setup.identity.names)
    true_mask = _true_mask(store, task)
    view = task_view(setup.spec.benchmark, dataset, task, seed=setup.spec.seed)
    adapted, scored = split_images(question.hopfield, view.test_rows)
    x_NI, _ = task_images(setup.spec, task, dataset, pixels, adapted)
    recovery = recover(question.hopfield, memory, x_NI, base, true_mask)

    most = len(scored) if question.num_batches is None else question.num_batches * TEST_BATCH_SIZE
    x_NI, labels_N = task_images(setup.spec, task, dataset, pixels, scored[:most])
    stride, offset = (1, 0) if question.hopfield.adapt_on == "same" else (2, 1)
    counts = scored_counts(len(scored), stride, offset, question.num_batches)
    found = correct_with_masks(x_NI, labels_N, base, recovery.mask)
    given = None if true_mask is None else correct_with_masks(x_NI, labels_N, base, true_mask)
    write_recovery_part(
        setup.layout,
        setup.identity.fingerprint,
        question,
        task=task,
        recovery=recovery,
        counts=counts | {"num_correct": batch_counts(found), "num_correct_given": _counts(given)},
    )


def _counts(correct: NDArray[np.bool_] | None) -> NDArray[np.int32] | None:
    return None if correct is None else batch_counts(correct)


def _true_mask(store: MaskStore, task: int) -> tuple[Pattern, ...] | None:
    if task not in store.locate():
        return None
    return unpack(store.read(task).bits, store.identity.shapes)


@lru_cache(maxsize=1)
def _memory(path: Path, fingerprint: str, names: tuple[str, ...]) -> HopfieldMemory:
    """Keep the memory last read: tens of megabytes, the same for every task of a question."""
    return read_memory(path, fingerprint, names)
