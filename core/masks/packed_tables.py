"""Sums of many images' values over packed masks, in integers, with a proven bound on their error.

``packed_sums`` reads a mask once for each image. Here sixteen images share the reading: their values are
rounded to integer multiples of a unit, one unit for each image, and for each six bits of a mask a table holds
the sums over all 64 subsets of their values. A mask's sum is then one look-up and one addition for six weights,
for all images at once. Integer sums do not depend on their order, nor on the processor.

The error. With u the unit of an image, round(g / u) * u differs from a value g by at most u / 2, and not at
all if g = 0, so a mask's sum is wrong by at most u / 2 times the number of values that are not 0. u is the
smallest for which no mask's sum can leave int32: the sum over a mask is at most that of the positive values,
and at least that of the negative ones. Partial sums may wrap around, which does not change the final one.

Letters: L images, at most LANES; N values of an image, T * 2048 for T tiles, in the order of the bits.
"""

import functools
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.masks.packed_sums import MIN_THREAD_BYTES, TILE_BYTES, Tiles, has_numba, in_threads

LANES = 16
TILE_BITS = 8 * TILE_BYTES
SLACK = 1.001  # far above all float64 rounding in the bound, a few times 1e-13


@dataclass(frozen=True)
class RoughSums:
    """Sums of L images over masks, float64 [L, masks], each off by at most ``error`` [L].

    mass: float64 [L], an upper bound of the sum of an image's absolute values.
    """

    sums: NDArray[np.float64]
    error: NDArray[np.float64]
    mass: NDArray[np.float64]


def can_look_up() -> bool:
    """Return whether these sums can be formed here: compiled loops, and bytes that start with the lowest."""
    return has_numba() and sys.byteorder == "little"


def blank_values(tiles: Tiles) -> NDArray[np.float32]:
    """Return zeros of the shape that ``rough_sums`` takes, float32 [LANES, N]."""
    return np.zeros((LANES, len(tiles) * TILE_BITS), dtype=np.float32)


def rough_sums(
    tiles: Tiles, masks: NDArray[np.int64], values_LN: NDArray[np.float32], *, num_threads: int = 1
) -> RoughSums | None:
    """Sum the values whose bit is 1, for each row of ``values_LN`` and each of ``masks`` (indices into K).

    values_LN: float32 [LANES, N]; rows that are not needed are zeros. None if a value is not finite.
    """
    loops, found = _compiled(), np.empty((LANES, 3))
    loops.masses(values_LN, found)
    if not np.isfinite(found).all():
        return None
    positive, negative, count = found.T
    largest = np.maximum(positive, negative)
    unit = np.where(largest > 0, SLACK * largest / (2.0**31 - 1 - count), 1.0)
    whole = loops.blank_rows(len(masks))
    words, per_unit, num_bytes = tiles.view(np.uint64), 1 / unit, len(masks) * len(tiles) * TILE_BYTES
    in_threads(
        lambda part: loops.table_sums(words, masks[part], values_LN, per_unit, whole[part]),
        len(masks),
        min(num_threads, num_bytes // MIN_THREAD_BYTES),
    )
    sums = whole.T.astype(np.float64) * unit[:, None]
    return RoughSums(sums, SLACK * unit * count / 2, SLACK * (positive + negative))


@functools.cache
def _compiled() -> Any:
    from core.masks import table_loops  # imports numba and compiles, so only when needed

    return table_loops
