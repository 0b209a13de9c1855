"""How a task's test images are cut into batches and inferences: 128 at a time, in file order."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.specs.inference import TEST_BATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class InferredRows:
    """One row per inference of one task's test images, int32 [rows]; 0 or -1 stand for none.

    batch: of 128 test images. first_image, num_images: what the inference answers for.
    inferred_task: in scenario NNs, which knows no tasks, the mask. num_correct: images that its
    mask classifies. rank: of the true task, 1 the best, 0 when not among the five best.
    exact_task: of exact one-shot, -1 where not asked. gap: float32, how much better the true task
    ranks than the best wrong one, in the units of ``task_inference.Ranking.values``; negative where
    a wrong one won, NaN where the true one is not among the five best or nothing compares.
    """

    batch: NDArray[np.int32]
    first_image: NDArray[np.int32]
    num_images: NDArray[np.int32]
    inferred_task: NDArray[np.int32]
    num_correct: NDArray[np.int32]
    rank: NDArray[np.int32]
    exact_task: NDArray[np.int32]
    gap: NDArray[np.float32]


def batch_sizes(num_images: int) -> NDArray[np.int32]:
    """Return the images of each test batch, int32; the last batch may be smaller."""
    starts = np.arange(0, num_images, TEST_BATCH_SIZE)
    return np.minimum(TEST_BATCH_SIZE, num_images - starts).astype(np.int32)


def batch_counts(correct: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Count the correct images of each test batch, int32 [ceil(images / 128)]."""
    starts = np.arange(0, len(correct), TEST_BATCH_SIZE)
    return np.add.reduceat(correct.astype(np.int32), starts)


def blank_rows(images: int | Literal["each"], num_images: int, num_batches: int | None) -> InferredRows:
    """Return what each inference of a task answers for, a test batch or one image, still unanswered.

    images: as in ``InferenceSpec``. num_images: of the task's test set.
    """
    sizes = batch_sizes(num_images)[:num_batches]
    batch = np.arange(len(sizes), dtype=np.int32)
    first_image = batch * TEST_BATCH_SIZE
    if images == "each":
        first_image = np.arange(sizes.sum(), dtype=np.int32)
        batch, sizes = first_image // TEST_BATCH_SIZE, np.ones_like(first_image)
    none = np.zeros_like(batch)
    return InferredRows(
        batch=batch,
        first_image=first_image,
        num_images=sizes,
        inferred_task=none,
        num_correct=none,
        rank=none,
        exact_task=none,
        gap=np.full(len(batch), np.nan, dtype=np.float32),
    )
