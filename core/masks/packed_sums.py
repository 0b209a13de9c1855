"""Sums over packed masks at memory speed: the two loops that task inference is built on.

Masks are stored in *tiles*, uint8 [T, K, 256]: tile t holds bytes 256 t .. 256 t + 255 of each of
K packed masks. A part of the weights is then one contiguous read for all masks, which makes a
shortlist cheap. Values per weight (a gradient, a count) are stored in *planes*, [T, 8, 256], where
plane j holds the values of bit j: memory is contiguous along a plane, so that testing a bit
compiles to a vector mask and one masked addition.

A mask's sum is computed from its own bits alone, in a fixed order. It does not depend on other masks,
on the threads, or on how tasks are split into shards.

The loops are compiled by numba. Without it numpy unpacks the bits, which is far slower and serves
as the readable reference.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE_BYTES = 256  # smaller tiles make vector loops too short; larger ones blur the shortlist
REFERENCE_CHUNK = 32  # masks that the reference unpacks at a time
MIN_THREAD_BYTES = 8_000_000  # of packed masks, a few milliseconds; less is not worth a thread

Tiles = NDArray[np.uint8]  # [T, K, 256]
Planes = NDArray[Any]  # [T, 8, 256]


def num_tiles(num_bytes: int) -> int:
    """Return the number of tiles of a packed mask of ``num_bytes``."""
    return -(-num_bytes // TILE_BYTES)


def to_tiles(packed_KP: NDArray[np.uint8]) -> Tiles:
    """Lay out packed masks, uint8 [K, P], as tiles [T, K, 256]; the last tile is padded with zeros."""
    num_masks, num_bytes = packed_KP.shape
    padded = np.zeros((num_masks, num_tiles(num_bytes) * TILE_BYTES), dtype=np.uint8)
    padded[:, :num_bytes] = packed_KP
    return np.ascontiguousarray(padded.reshape(num_masks, -1, TILE_BYTES).transpose(1, 0, 2))


def from_tiles(tiles: Tiles, num_bytes: int) -> NDArray[np.uint8]:
    """Undo ``to_tiles``: uint8 [K, P]."""
    return tiles.transpose(1, 0, 2).reshape(tiles.shape[1], len(tiles) * TILE_BYTES)[:, :num_bytes]


def to_planes(bit_values: NDArray[Any]) -> Planes:
    """Lay out one value per mask bit, [8 P] in the order of the bits, as planes [T, 8, 256]."""
    total = num_tiles(bit_values.size // 8)
    padded = np.zeros(total * TILE_BYTES * 8, dtype=bit_values.dtype)
    padded[: bit_values.size] = bit_values
    return np.ascontiguousarray(padded.reshape(total, TILE_BYTES, 8).transpose(0, 2, 1))


def from_planes(planes: Planes, num_bytes: int) -> NDArray[Any]:
    """Undo ``to_planes``: [8 P]."""
    return planes.transpose(0, 2, 1).reshape(-1)[: 8 * num_bytes]


def masked_sums(
    tiles: Tiles,
    masks: NDArray[np.int64],
    planes: Planes,
    chosen: NDArray[np.int64],
    *,
    num_threads: int = 1,
) -> NDArray[np.float64]:
    """Sum, for each of ``masks`` (indices into K), the values whose bit is 1, float64 [masks].

    chosen: the tiles to read, ascending. Sums are formed in the dtype of ``planes`` within a tile,
    in float64 across tiles.
    """
    loop = _compiled().sums if has_numba() else _reference_sums
    out = np.zeros(len(masks))
    part_planes = planes if len(chosen) == len(planes) else planes[chosen]
    num_bytes = len(masks) * len(chosen) * TILE_BYTES
    in_threads(
        lambda part: loop(tiles, masks[part], part_planes, chosen, out[part]),
        len(masks),
        min(num_threads, num_bytes // MIN_THREAD_BYTES),
    )
    return out


def bit_counts(tiles: Tiles, masks: NDArray[np.int64], *, num_threads: int = 1) -> NDArray[np.int32]:
    """Count how many of ``masks`` have a 1 at each bit, int32 planes [T, 8, 256]."""
    loop = _compiled().counts if has_numba() else _reference_counts
    out = np.zeros((len(tiles), 8, TILE_BYTES), dtype=np.int32)
    num_bytes = len(masks) * len(tiles) * TILE_BYTES
    num_parts = min(num_threads, num_bytes // MIN_THREAD_BYTES)
    in_threads(lambda part: loop(tiles[part], masks, out[part]), len(tiles), num_parts)
    return out


@functools.cache
def has_numba() -> bool:
    """Return whether the compiled loops can be used; SUPSUP_NO_NUMBA=1 turns them off."""
    return os.environ.get("SUPSUP_NO_NUMBA") != "1" and find_spec("numba") is not None


def in_threads(work: Callable[[slice], None], size: int, num_threads: int) -> None:
    """Run ``work`` on one part of ``size`` items per thread; the compiled loops release the GIL."""
    step = max(1, -(-size // max(1, num_threads)))
    parts = [slice(start, start + step) for start in range(0, size, step)]
    if len(parts) < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, parts))


def _reference_sums(
    tiles: Tiles,
    masks: NDArray[np.int64],
    planes: Planes,
    chosen: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    values = planes.transpose(0, 2, 1).reshape(-1)
    for start in range(0, len(masks), REFERENCE_CHUNK):
        chunk = tiles[chosen][:, masks[start : start + REFERENCE_CHUNK]]
        for i in range(chunk.shape[1]):  # one product per mask, so that sums are independent
            bits = np.unpackbits(chunk[:, i].reshape(-1), bitorder="little")
            out[start + i] = bits.astype(values.dtype) @ values


def _reference_counts(tiles: Tiles, masks: NDArray[np.int64], out: NDArray[np.int32]) -> None:
    for start in range(0, len(masks), REFERENCE_CHUNK):
        chunk = tiles[:, masks[start : start + REFERENCE_CHUNK]]
        bits = np.unpackbits(chunk, axis=2, bitorder="little").sum(axis=1, dtype=np.int32)
        out += bits.reshape(len(tiles), TILE_BYTES, 8).transpose(0, 2, 1)


@functools.cache
def _compiled() -> Any:
    from core.masks import packed_loops  # imports numba and compiles, so only when needed

    return packed_loops
