"""A batch in which each image has a mask of its own, in one pass over the bits of these masks.

``core.inference.superposition.mask_weights`` forms the weights of one mask, which pays if many images share it. Here no
weights are formed: a layer's sums are taken from base weights and bits as they are read, and base weights stay
in cache for the images of a block. For networks of plain float32 layers on a CPU.

Letters: B images, D inputs, O outputs, T tiles of a mask, K tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.inference.superposition import Bank, Tasks
from core.masks.packed_sums import TILE_BYTES, Tiles, in_threads
from core.masks.packed_tables import can_look_up

BLOCK_IMAGES = 8  # whose bits and activations fit into a core's cache beside the weights
MIN_THREAD_BLOCKS = 4  # about a millisecond; less is not worth a thread
SPARE_WEIGHTS = 32  # behind the last, which a step may read
SPARE_BYTES = 8


@dataclass(frozen=True)
class ManyMasks:
    """Layers of a perceptron, ready for ``logits``. weights: float32, flat, per layer; shapes: [O, I]."""

    weights: tuple[NDArray[np.float32], ...]
    shapes: tuple[tuple[int, int], ...]

    def logits(
        self, x_BD: NDArray[np.float32], tiles: Tiles, tasks_B: NDArray[np.int64], *, num_threads: int = 1
    ) -> NDArray[np.float32]:
        """Return the logits [B, O] of each image under the mask of its task.

        tiles: uint8 [T, K, 256] (``core.masks.packed_sums``). tasks_B: indices into K. A row does not depend on the
        other images of the call.
        """
        out = np.empty((len(x_BD), self.shapes[-1][0]), dtype=np.float32)
        num_blocks = -(-len(x_BD) // BLOCK_IMAGES)

        def work(part: slice) -> None:
            room = _room(self.shapes, len(tiles))
            for block in range(num_blocks)[part]:
                rows = slice(block * BLOCK_IMAGES, (block + 1) * BLOCK_IMAGES)
                out[rows] = self._block(x_BD[rows], tiles, tasks_B[rows], room)

        in_threads(work, num_blocks, min(num_threads, num_blocks // MIN_THREAD_BLOCKS))
        return out

    def _block(
        self, x_BD: NDArray[np.float32], tiles: Tiles, tasks_B: NDArray[np.int64], room: "_Room"
    ) -> NDArray[np.float32]:
        """Return the logits of a few images, in memory that the next block overwrites."""
        loops, first_byte = _compiled(), 0
        bits, values = room.bits[: len(x_BD)], [value[: len(x_BD)] for value in room.values]
        loops.gather(tiles.view(np.uint64), tasks_B, bits.view(np.uint64))
        values[0][:, : x_BD.shape[1]] = x_BD
        for index, (num_outputs, num_inputs) in enumerate(self.shapes):
            target = values[index + 1][:, :num_outputs]
            loops.layer(bits, first_byte, self.weights[index], values[index], num_inputs, target)
            if index + 1 < len(self.shapes):
                loops.relu(values[index + 1], num_outputs)
            first_byte += -(-num_outputs * num_inputs // 8)
        return values[-1][:, : self.shapes[-1][0]]


@dataclass(frozen=True)
class _Room:
    """Memory for a block. bits: uint8 [images, bytes of a mask and a few more]. values: float32, per layer's border."""

    bits: NDArray[np.uint8]
    values: tuple[NDArray[np.float32], ...]


def _room(shapes: Sequence[tuple[int, int]], num_tiles: int) -> _Room:
    bits = np.zeros((BLOCK_IMAGES, num_tiles * TILE_BYTES + SPARE_BYTES), dtype=np.uint8)
    widths = [shapes[0][1], *(num_outputs for num_outputs, _ in shapes)]
    padded = [-(-width // SPARE_WEIGHTS) * SPARE_WEIGHTS for width in widths]
    return _Room(bits, tuple(np.zeros((BLOCK_IMAGES, width), dtype=np.float32) for width in padded))


class OneMask(Protocol):
    """The part of ``core.inference.search.SearchModel`` that passes images through one mask."""

    def logits(self, x_BD: Tensor, packed_P: NDArray[np.uint8], task: int) -> Tensor:
        """Return the logits [B, O] under one task's mask."""
        ...


def logits_by_task(model: OneMask, x_BD: Tensor, bank: Bank, tasks_B: Tasks) -> Tensor:
    """Return the logits [B, O] of each image under the mask of its task, one task after another."""
    rows, logits = [], []
    for task in np.unique(tasks_B):
        rows.append(np.flatnonzero(tasks_B == task))
        packed_P = bank.packed(np.array([task]))[0]
        logits.append(model.logits(x_BD[torch.from_numpy(rows[-1])], packed_P, int(task)))
    order = torch.from_numpy(np.argsort(np.concatenate(rows), kind="stable"))
    return torch.cat(logits)[order]


def many_masks(base: Sequence[Tensor]) -> ManyMasks | None:
    """Return the layers of ``base``, [O, I], or None where this machine or the network needs another way."""
    plain = all(
        weight.ndim == 2 and weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in base
    )
    if not plain or not can_look_up():
        return None
    flat = tuple(
        np.append(weight.numpy().reshape(-1), np.zeros(SPARE_WEIGHTS, np.float32)) for weight in base
    )
    return ManyMasks(flat, tuple((int(weight.shape[0]), int(weight.shape[1])) for weight in base))


def _compiled() -> Any:
    from core.masks import forward_loops  # imports numba and compiles, so only when needed

    return forward_loops
