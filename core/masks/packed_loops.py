"""The loops of ``packed_sums``, compiled by numba; shapes and meanings are those given there."""

from typing import Any

import numpy as np

from core.masks.compiled import compiler

# Sums may be formed in vector lanes, in an order fixed by the code alone.
_compile = compiler(fastmath={"reassoc", "nsz", "contract"}, nogil=True)


@_compile
def sums(tiles: Any, masks: Any, planes: Any, chosen: Any, out: Any) -> None:
    """Add to ``out`` [masks] each mask's sum over the chosen tiles, four masks at a time."""
    last = len(masks) - 1
    for c in range(len(chosen)):
        tile, values = tiles[chosen[c]], planes[c]
        for i in range(0, len(masks), 4):
            j, k, m = min(i + 1, last), min(i + 2, last), min(i + 3, last)
            four = _sum_four(tile[masks[i]], tile[masks[j]], tile[masks[k]], tile[masks[m]], values)
            for number in range(min(4, len(masks) - i)):
                out[i + number] += four[number]


@_compile
def counts(tiles: Any, masks: Any, out: Any) -> None:
    """Add to ``out`` [T, 8, 256] how many of ``masks`` have each bit; bytes count 255 masks at a time."""
    partial = np.zeros((8, tiles.shape[2]), dtype=np.uint8)
    for t in range(len(tiles)):
        for number in range(len(masks)):
            row = tiles[t, masks[number]]
            for j in range(8):
                plane = partial[j]
                for p in range(len(row)):
                    plane[p] += (row[p] >> np.uint8(j)) & np.uint8(1)
            if number % 255 == 254 or number == len(masks) - 1:
                out[t] += partial
                partial[:] = 0


@_compile
def _sum_four(a: Any, b: Any, c: Any, d: Any, values: Any) -> Any:
    zero = values.dtype.type(0)
    sum_a, sum_b, sum_c, sum_d = zero, zero, zero, zero
    for j in range(8):
        bit, plane = np.uint8(1 << j), values[j]
        for p in range(len(plane)):
            value = plane[p]
            sum_a += value if a[p] & bit else zero
            sum_b += value if b[p] & bit else zero
            sum_c += value if c[p] & bit else zero
            sum_d += value if d[p] & bit else zero
    return sum_a, sum_b, sum_c, sum_d
