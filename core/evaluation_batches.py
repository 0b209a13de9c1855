"""How a task's test images are cut into batches: 128 at a time, in file order."""

import numpy as np
from numpy.typing import NDArray

TEST_BATCH_SIZE = 128


def batch_sizes(num_images: int) -> NDArray[np.int32]:
    """Return the images of each test batch, int32; the last batch may be smaller."""
    starts = np.arange(0, num_images, TEST_BATCH_SIZE)
    return np.minimum(TEST_BATCH_SIZE, num_images - starts).astype(np.int32)


def batch_counts(correct: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Count the correct images of each test batch, int32 [ceil(images / 128)]."""
    starts = np.arange(0, len(correct), TEST_BATCH_SIZE)
    return np.add.reduceat(correct.astype(np.int32), starts)
