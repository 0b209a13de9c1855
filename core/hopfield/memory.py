"""HopSupSup: masks as attractors of a Hopfield network of fixed size, one network per masked layer.

A mask m in {0, 1}^d is stored as z = 2 m - 1 in {-1, +1}^d, in a matrix Psi [d, d] that starts at
zero (paper, on HopSupSup). There are two rules to store z, one task after another:

- Hebbian: Psi <- Psi + (1/d) z z^T.
- Storkey: h = Psi z; Psi <- Psi + (1/d) (z z^T - I - z h^T - h z^T).

Psi and the mean of the stored z are all that ``recovery`` needs to descend the energy
E(z) = -0.5 z^T Psi z. Sums over Psi run in numpy in a fixed order, so that a memory has the same
bits with any number of threads.

Letters: D outputs of a masked layer, N masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.specs.inference import HopfieldRule

Pattern = NDArray[np.bool_]  # [D], a layer's mask
Array = NDArray[np.float32]


@dataclass(frozen=True)
class HopfieldLayer:
    """The memory of one layer. psi: float32 [D, D]. total: int32 [D], the sum of the stored z."""

    psi: Array
    total: NDArray[np.int32]

    @cached_property
    def spectrum(self) -> tuple[Array, Array]:
        """Psi's eigenvalues, ascending, float32 [D], and eigenvectors in columns [D, D]; seconds for D = 2048."""
        values, vectors = np.linalg.eigh(self.psi)  # Psi is symmetric but for rounding
        return values, vectors


@dataclass(frozen=True)
class HopfieldMemory:
    """The memory of ``num_masks`` masks; its size does not depend on their number."""

    rule: HopfieldRule
    layers: tuple[HopfieldLayer, ...]
    num_masks: int

    @property
    def num_bytes(self) -> int:
        """Bytes of Psi and the sums, over all layers."""
        return sum(layer.psi.nbytes + layer.total.nbytes for layer in self.layers)

    def means(self) -> tuple[Array, ...]:
        """Return the mean of the stored z, float32 [D] per layer; zeros for an empty memory."""
        num = np.float32(max(1, self.num_masks))
        return tuple(layer.total.astype(np.float32) / num for layer in self.layers)


def memory_num_bytes(widths: Sequence[int]) -> int:
    """Return the bytes of a memory with layers of D = ``widths``: float32 Psi and int32 sums."""
    return sum(4 * d * d + 4 * d for d in widths)


def steps_to_exact(hamming: NDArray[np.integer[Any]]) -> int | None:
    """Return the number of steps after which no bit was wrong any more, None if some were at the end.

    hamming: number of wrong bits before each step, and at the end.
    """
    wrong = np.flatnonzero(hamming)
    needed = int(wrong[-1]) + 1 if len(wrong) else 0
    return None if needed == len(hamming) else needed


def empty_memory(rule: HopfieldRule, widths: Sequence[int]) -> HopfieldMemory:
    """Return an empty memory with layers of D = ``widths`` outputs."""
    layers = tuple(HopfieldLayer(np.zeros((d, d), np.float32), np.zeros(d, np.int32)) for d in widths)
    return HopfieldMemory(rule, layers, 0)


def store(memory: HopfieldMemory, mask: Sequence[Pattern]) -> HopfieldMemory:
    """Return ``memory`` with one more mask, bool [D] per layer."""
    layers = tuple(
        HopfieldLayer(
            _stored(memory.rule, layer.psi, signs(part)), layer.total + signs(part).astype(np.int32)
        )
        for layer, part in zip(memory.layers, mask, strict=True)
    )
    return HopfieldMemory(memory.rule, layers, memory.num_masks + 1)


def memorise(rule: HopfieldRule, masks: Sequence[Sequence[Pattern]]) -> HopfieldMemory:
    """Return the memory of ``masks``, stored in order."""
    return reduce(store, masks, empty_memory(rule, [len(part) for part in masks[0]]))


def signs(mask: Pattern) -> Array:
    """Return z = 2 m - 1, float32 [D]."""
    return np.where(mask, np.float32(1), np.float32(-1))


def local_field(psi: Array, z: Array) -> Array:
    """Return Psi z, float32 [D]; the sums do not depend on a matrix library or its threads."""
    return np.asarray((psi * z).sum(axis=1))


def are_fixed_points(psi: Array, masks_ND: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which masks, bool [N, D], are fixed points: the field of each neuron has its own sign."""
    z_ND = signs(masks_ND)
    return np.asarray((z_ND @ psi * z_ND > 0).all(axis=1))


def settle(psi: Array, masks_ND: NDArray[np.bool_], max_rounds: int = 50) -> NDArray[np.bool_]:
    """Return where masks, bool [N, D], end when all neurons follow their field, round after round.

    A neuron whose field is exactly zero stays. Stops at fixed points or after ``max_rounds``.
    """
    z_ND = signs(masks_ND)
    for _ in range(max_rounds):
        field_ND = z_ND @ psi
        after_ND = np.where(field_ND == 0, z_ND, np.sign(field_ND)).astype(np.float32)
        if (after_ND == z_ND).all():
            break
        z_ND = after_ND
    return np.asarray(z_ND > 0)


def _stored(rule: HopfieldRule, psi: Array, z: Array) -> Array:
    size = np.float32(len(z))
    if rule == "hebbian":
        return psi + np.outer(z, z / size)
    field = local_field(psi, z)
    # z z^T - z h^T in one outer product: two would read Psi's megabytes twice.
    change = np.outer(z, (z - field) / size)
    change -= np.outer(field / size, z)
    change[np.diag_indices_from(change)] -= 1 / size
    return psi + change
