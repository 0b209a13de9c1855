"""Sparse masks as gaps: how many bits lie between one rare bit and the next, a byte each.

The positions are those of a packed mask's bits, its padding included. A gap of 255 or more is
written as bytes of 255, each standing for 255 bits passed, and then the rest. Gaps of a random mask
are geometric: an entropy coder (zstd's) takes such bytes close to the mask's entropy.
"""

import numpy as np
from numpy.typing import NDArray

LONGEST = 255  # so many bits passed, and no rare bit after them
RARE = 0.2  # share of the rarer bit, below which gaps are smaller than bits


def rare_bit(num_ones: int, num_bits: int) -> int | None:
    """Return which bit, 0 or 1, is rare enough for gaps; None: neither."""
    share = num_ones / num_bits
    if share < RARE:
        return 1
    return 0 if share > 1 - RARE else None


def to_gaps(packed_P: NDArray[np.uint8], bit: int) -> NDArray[np.uint8]:
    """Return the gaps before each bit of this value in a packed mask, uint8."""
    bits = np.unpackbits(packed_P, bitorder="little")
    gaps = np.diff(np.flatnonzero(bits == bit), prepend=-1) - 1
    num_longest = gaps // LONGEST
    coded = np.full(len(gaps) + int(num_longest.sum()), LONGEST, dtype=np.uint8)
    coded[np.cumsum(num_longest + 1) - 1] = gaps % LONGEST
    return coded


def from_gaps(coded: NDArray[np.uint8], bit: int, num_bytes: int) -> NDArray[np.uint8]:
    """Undo ``to_gaps``: uint8 [num_bytes]. Raises ValueError on gaps that lead past the end."""
    is_longest = coded == LONGEST
    ends = np.cumsum(np.where(is_longest, LONGEST, coded.astype(np.int64) + 1))
    positions = ends[~is_longest] - 1
    if len(ends) and ends[-1] > 8 * num_bytes:
        raise ValueError(f"gaps that lead to bit {ends[-1]} of a mask of {8 * num_bytes} bits")
    bits = np.full(8 * num_bytes, 1 - bit, dtype=np.uint8)
    bits[positions] = bit
    return np.packbits(bits, bitorder="little")
