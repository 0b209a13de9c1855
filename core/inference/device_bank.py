"""A mask bank on a GPU: packed bits in device memory, unpacked one block of masks at a time.

Everything is torch, so the same code runs on a CPU, where ``core.inference.superposition.MaskBank`` is faster.
A block of masks is one matrix: multiplying B images with all of it takes one matrix product per
layer, which suits a GPU.

Letters: K tasks, B images, P bytes of a packed mask, N bits of it, T tiles, V values of a tile,
O and I a layer's outputs and inputs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import InferenceError
from core.inference.superposition import Activations, Tasks, num_bits, top_k_lowest
from core.masks.packed_sums import TILE_BYTES, Planes, from_planes, to_planes

BLOCK_TASKS = 64  # unpacked at a time: 20 MB as bytes and 80 MB as float32 for LeNet


@dataclass(frozen=True)
class DeviceBank:
    """A ``core.inference.superposition.Bank`` on the device of ``bits``.

    bits: packed, uint8 [K, P]. base: float32 [O, I] per layer, on the same device.
    """

    bits: Tensor
    base: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if self.num_tasks == 0:
            raise InferenceError("the mask bank is empty; train at least one task first")

    @property
    def num_tasks(self) -> int:
        """Number of masks."""
        return len(self.bits)

    def counts(self, tasks: Tasks) -> Planes:
        """See ``Bank``."""
        total = torch.zeros(self.bits.shape[1] * 8, dtype=torch.int32, device=self.bits.device)
        for block in self._blocks(tasks):
            total += _unpack(block).sum(dim=0, dtype=torch.int32)
        return to_planes(total.cpu().numpy())

    def sums(self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Bank``. As everywhere, sums are float32 within a tile and float64 across tiles."""
        device, num_bytes = self.bits.device, self.bits.shape[1]
        tiles = torch.from_numpy(chosen).to(device)
        values_TV = torch.from_numpy(from_planes(planes, len(planes) * TILE_BYTES)).to(device)
        values_TV = values_TV.view(len(planes), -1)[tiles]
        by_block = []
        for block in self._blocks(tasks):
            padded = torch.nn.functional.pad(block, (0, len(planes) * TILE_BYTES - num_bytes))
            bits_KTV = _unpack(padded.view(len(block), -1, TILE_BYTES)[:, tiles].flatten(1))
            kept_KT = (bits_KTV.view(len(block), *values_TV.shape) * values_TV).sum(dim=2)
            by_block.append(kept_KT.sum(dim=1, dtype=torch.float64))
        return _to_numpy(torch.cat(by_block))

    def top_k_lowest(
        self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64], num: int
    ) -> tuple[NDArray[np.float64], Tasks]:
        """See ``Bank``."""
        return top_k_lowest(self.sums(planes, tasks, chosen), tasks, num)

    def products(self, activations: Activations, tasks: Tasks) -> NDArray[np.float64]:
        """See ``Bank``."""
        return _to_numpy(
            torch.cat([self._block_products(activations, block) for block in self._blocks(tasks)], dim=1)
        )

    def rough_bank(self, num_tasks: int) -> None:
        """See ``Bank``; its products are as quick."""

    def packed(self, tasks: Tasks) -> NDArray[np.uint8]:
        """See ``Bank``."""
        found: NDArray[np.uint8] = self._rows(tasks).cpu().numpy()
        return found

    def _block_products(self, activations: Activations, block_KP: Tensor) -> Tensor:
        """Return ``products`` of one block of masks, float64 [B, K]."""
        total = torch.zeros((), dtype=torch.float64, device=block_KP.device)
        layers = zip(
            activations.inputs, activations.deltas, _block_weights(_unpack(block_KP), self.base), strict=True
        )
        for h_BI, delta_BO, weight_KOI in layers:
            outputs_BKO = (h_BI @ weight_KOI.flatten(0, 1).T).view(len(h_BI), *weight_KOI.shape[:2])
            total = total + (outputs_BKO * delta_BO.unsqueeze(1)).sum(dim=2, dtype=torch.float64)
        return total

    def _blocks(self, tasks: Tasks) -> Iterator[Tensor]:
        for start in range(0, len(tasks), BLOCK_TASKS):
            yield self._rows(tasks[start : start + BLOCK_TASKS])

    def _rows(self, tasks: Tasks) -> Tensor:
        return self.bits[torch.from_numpy(tasks).to(self.bits.device)]


def _unpack(packed_KP: Tensor) -> Tensor:
    """Return the bits, uint8 [K, 8 P], least significant first."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed_KP.device)
    return ((packed_KP.unsqueeze(2) >> shifts) & 1).flatten(1)


def _block_weights(bits_KN: Tensor, base: Sequence[Tensor]) -> list[Tensor]:
    """Return base * mask for a block of masks, float32 [K, O, I] per layer."""
    weights, start = [], 0
    for weight_OI in base:
        layer_KN = bits_KN[:, start : start + weight_OI.numel()]
        weights.append(layer_KN.reshape(-1, *weight_OI.shape) * weight_OI)
        start += num_bits(weight_OI)
    return weights


def _to_numpy(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.cpu().numpy()
    return found
