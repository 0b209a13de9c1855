"""Test batches of a task, 128 images each in file order, and the rows of its inferences."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.seeding import stream
from core.specs.inference import TEST_BATCH_SIZE, InferenceSpec


@dataclass(frozen=True, kw_only=True)
class InferredRows:
    """One row per inference on one task's test images, int32 [rows]; 0 or -1 means none.

    batch: number of the test batch. first_image, num_images: the images that the inference answers for.
    inferred_task: in scenario NNs, which has no tasks, the mask. num_correct: images that its mask
    classifies correctly. rank: of the true task, 1 is best, 0 if it is not among the five best.
    exact_task: the answer of exact one-shot, -1 if it was not run. gap: float32, the margin by which the
    true task ranks above the best wrong one, in the units of ``core.inference.search.Ranking.values``;
    negative where a wrong one won, NaN where the true one is not among the five best or there is
    nothing to compare.

    deciding_image: index in the data set's test images of the image that decides, or of the first that do.
    num_whole: inferences for which rough sums left so many tasks that all were compared exactly; not stored.
    """

    batch: NDArray[np.int32]
    first_image: NDArray[np.int32]
    num_images: NDArray[np.int32]
    inferred_task: NDArray[np.int32]
    num_correct: NDArray[np.int32]
    rank: NDArray[np.int32]
    exact_task: NDArray[np.int32]
    gap: NDArray[np.float32]
    deciding_image: NDArray[np.int32]
    num_whole: int = 0


def batch_sizes(num_images: int) -> NDArray[np.int32]:
    """Return the number of images in each test batch, int32; the last batch may be smaller."""
    starts = np.arange(0, num_images, TEST_BATCH_SIZE)
    return np.minimum(TEST_BATCH_SIZE, num_images - starts).astype(np.int32)


def batch_counts(correct: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Count the correct images in each test batch, int32 [ceil(images / 128)]."""
    starts = np.arange(0, len(correct), TEST_BATCH_SIZE)
    return np.add.reduceat(correct.astype(np.int32), starts)


def blank_rows(images: int | Literal["each"], num_images: int, num_batches: int | None) -> InferredRows:
    """Return the rows of a task before inference, one per test batch or one per image.

    images: as in ``InferenceSpec``. num_images: size of the task's test set.
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
        deciding_image=none,
    )


def deciding_images(
    spec: InferenceSpec, rows: InferredRows, *, seed: int, task: int
) -> list[NDArray[np.int64]]:
    """Return the images that decide for each row, ascending indices in the task's test set.

    Those of a batch depend on (seed, task, batch) alone.
    """
    sizes = rows.num_images if spec.images == "each" else np.minimum(rows.num_images, spec.images)
    chosen = []
    for first, num_images, num, batch in zip(
        rows.first_image.tolist(), rows.num_images.tolist(), sizes.tolist(), rows.batch.tolist(), strict=True
    ):
        within = np.arange(num)
        if spec.draws and num < num_images:
            within = np.sort(stream(seed, "deciding", task, batch).permutation(num_images)[:num])
        chosen.append(first + within)
    return chosen
