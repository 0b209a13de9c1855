"""Several data sets as one, for a sequence of tasks: images of one shape, classes numbered one set after another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FULL = 255.0


@dataclass(frozen=True, kw_only=True)
class PartRows:
    """Where a part's images and classes are in the whole."""

    train: slice
    test: slice
    first_class: int
    num_classes: int


def to_shape(images: NDArray[np.uint8], shape: tuple[int, ...], scale: float) -> NDArray[np.uint8]:
    """Return images [N, ...] of ``shape``, 0 to 255: grey repeated in each colour, smaller ones centred on blank."""
    height, width = images.shape[-2:]
    top, left = (shape[-2] - height) // 2, (shape[-1] - width) // 2
    whole = np.zeros((len(images), *shape), dtype=np.uint8)
    pixels = images if scale == FULL else np.rint(images * (FULL / scale)).astype(np.uint8)
    if len(shape) == 3 and pixels.ndim == 3:
        pixels = pixels[:, None]
    whole[..., top : top + height, left : left + width] = pixels
    return whole


def part_rows(sizes: Sequence[tuple[int, int, int]]) -> tuple[PartRows, ...]:
    """Return where each part is. sizes: training images, test images and classes of each."""
    ends = np.cumsum([(0, 0, 0), *sizes], axis=0).tolist()
    return tuple(
        PartRows(train=slice(a[0], b[0]), test=slice(a[1], b[1]), first_class=a[2], num_classes=b[2] - a[2])
        for a, b in pairwise(ends)
    )
