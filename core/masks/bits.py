"""Masks as bits, one per weight, 1 = kept; sparse masks also as gaps between their rare bits.

Packed form: each layer flattened in C order, packed least significant bit first, padded with
zero bits to a whole byte; layers concatenated in order.

Gaps: the number of bits between one rare bit and the next, one byte each, over the bits of a
packed mask, padding included. A gap of 255 or more is written as bytes of 255, each for 255 bits
passed, and then the rest. Gaps of a random mask are geometric: an entropy coder (zstd's) brings
such bytes close to the mask's entropy.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import DamagedFileError

Shapes = Sequence[tuple[int, ...]]
LONGEST = 255  # bits passed with no rare bit after them
RARE = 0.2  # share of the rarer bit below which gaps are smaller than bits


def packed_num_bytes(shapes: Shapes) -> int:
    """Return the size of one packed mask in bytes."""
    return sum(_layer_num_bytes(shape) for shape in shapes)


def pack(mask: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Pack one task's mask, bool [out, in] per layer, into uint8 [packed_num_bytes]."""
    return np.concatenate([np.packbits(layer, bitorder="little") for layer in mask])


def unpack(bits: bytes | NDArray[np.uint8], shapes: Shapes) -> tuple[NDArray[np.bool_], ...]:
    """Undo ``pack``. Raises DamagedFileError on a wrong length or a set padding bit."""
    packed = np.frombuffer(bits, dtype=np.uint8) if isinstance(bits, bytes) else bits
    check_padding(packed, shapes)
    mask, start = [], 0
    for shape in shapes:
        stop = start + _layer_num_bytes(shape)
        flat = np.unpackbits(packed[start:stop], count=math.prod(shape), bitorder="little")
        mask.append(flat.astype(bool).reshape(shape))
        start = stop
    return tuple(mask)


def check_padding(packed: NDArray[np.uint8], shapes: Shapes) -> None:
    """Raise DamagedFileError unless the length fits ``shapes`` and all padding bits are zero."""
    expected = packed_num_bytes(shapes)
    if packed.size != expected:
        raise DamagedFileError(f"a mask of {packed.size} bytes, expected {expected}")
    stop = 0
    for index, shape in enumerate(shapes):
        stop += _layer_num_bytes(shape)
        used = math.prod(shape) % 8
        if used and packed[stop - 1] >> used:
            raise DamagedFileError(f"layer {index} of a mask has padding bits that are not zero")


def bits_digest(bits: bytes) -> str:
    """Return the sha256 (hex) of a packed mask."""
    return hashlib.sha256(bits).hexdigest()


def joint_digest(digests: Iterable[str]) -> str:
    """Return one sha256 (hex) of many masks, given by their digests (hex) in order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def num_ones(packed: NDArray[np.uint8]) -> int:
    """Count the weights kept."""
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


def rare_bit(num_ones: int, num_bits: int) -> int | None:
    """Return the bit, 0 or 1, that is rare enough for gaps; None if neither is."""
    share = num_ones / num_bits
    if share < RARE:
        return 1
    return 0 if share > 1 - RARE else None


def to_gaps(packed_P: NDArray[np.uint8], bit: int) -> NDArray[np.uint8]:
    """Return the gaps before each bit of value ``bit`` in a packed mask, uint8."""
    bits = np.unpackbits(packed_P, bitorder="little")
    gaps = np.diff(np.flatnonzero(bits == bit), prepend=-1) - 1
    num_longest = gaps // LONGEST
    coded = np.full(len(gaps) + int(num_longest.sum()), LONGEST, dtype=np.uint8)
    coded[np.cumsum(num_longest + 1) - 1] = gaps % LONGEST
    return coded


def from_gaps(coded: NDArray[np.uint8], bit: int, num_bytes: int) -> NDArray[np.uint8]:
    """Undo ``to_gaps``: uint8 [num_bytes]. Raises ValueError if the gaps lead past the end."""
    is_longest = coded == LONGEST
    ends = np.cumsum(np.where(is_longest, LONGEST, coded.astype(np.int64) + 1))
    positions = ends[~is_longest] - 1
    if len(ends) and ends[-1] > 8 * num_bytes:
        raise ValueError(f"gaps that lead to bit {ends[-1]} of a mask of {8 * num_bytes} bits")
    bits = np.full(8 * num_bytes, 1 - bit, dtype=np.uint8)
    bits[positions] = bit
    return np.packbits(bits, bitorder="little")


def _layer_num_bytes(shape: tuple[int, ...]) -> int:
    return -(-math.prod(shape) // 8)
