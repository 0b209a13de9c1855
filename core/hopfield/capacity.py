"""Measure how many masks a Hopfield memory holds, trained or random ones.

A mask is held if it is a fixed point of the memory, and found again if the dynamics lead back to
it from the mask with a tenth of its bits flipped; both must be true in every layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.hopfield.memory import HopfieldMemory, are_fixed_points, empty_memory, settle, store
from core.seeding import stream
from core.specs.inference import HopfieldRule

NUM_SAMPLED = 50  # stored masks to check, evenly spaced
FLIPPED_SHARE = 0.1

Masks = Sequence[NDArray[np.bool_]]  # [N, D] per layer


@dataclass(frozen=True, kw_only=True)
class CapacityPoint:
    """Fractions of the stored masks, in [0, 1], when ``num_masks`` are stored."""

    num_masks: int
    held: float
    found_again: float


def random_masks(seed: int, num: int, widths: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Return masks whose bits are fair coin flips, bool [num, D] per layer."""
    draw = stream(seed, "capacity", 0)
    return [draw.integers(0, 2, size=(num, width), dtype=np.uint8).astype(bool) for width in widths]


def measure_capacity(
    rule: HopfieldRule, masks: Masks, counts: Sequence[int], *, seed: int
) -> Iterator[CapacityPoint]:
    """Store masks one by one; yield a point at each of ``counts``, which ascend."""
    memory = empty_memory(rule, [layer.shape[1] for layer in masks])
    for count in counts:
        for number in range(memory.num_masks, count):
            memory = store(memory, [layer[number] for layer in masks])
        yield _measure(memory, masks, seed)


def _measure(memory: HopfieldMemory, masks: Masks, seed: int) -> CapacityPoint:
    num = memory.num_masks
    chosen = np.unique(np.linspace(0, num - 1, min(num, NUM_SAMPLED)).astype(int))
    draw = stream(seed, "capacity", 1, num)
    held = found = np.ones(len(chosen), dtype=bool)
    for layer, stored in zip(memory.layers, masks, strict=True):
        masks_ND = stored[chosen]
        flipped_ND = masks_ND ^ (draw.random(masks_ND.shape) < FLIPPED_SHARE)
        held = held & are_fixed_points(layer.psi, masks_ND)
        found = found & (settle(layer.psi, flipped_ND) == masks_ND).all(axis=1)
    return CapacityPoint(num_masks=num, held=float(held.mean()), found_again=float(found.mean()))
