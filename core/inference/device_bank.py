"""A mask bank on a GPU: packed bits in device memory, unpacked one block of masks at a time.

Everything is torch, so the same code runs on a CPU, where ``core.inference.superposition.MaskBank`` is faster.
A block of masks is one matrix: multiplying B images with all of it takes one matrix product per
layer, which suits a GPU. Before that, all masks are compared roughly (``rough_sums``): the bits are exact in
bfloat16, and a value is the sum of two bfloat16 numbers but for a known rest.

Letters: L images whose gradients are summed, K tasks, B images, P bytes of a packed mask, N bits of it,
T tiles, V values of a tile, O and I a layer's outputs and inputs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import InferenceError
from core.inference.best_first import UNIT_ROUNDOFF
from core.inference.superposition import Activations, Tasks, num_bits, top_k_lowest
from core.masks.packed_sums import TILE_BYTES, Planes, from_planes, to_planes
from core.masks.packed_tables import RoughSums

# Of float32 in a tile's sum of both parts, twice over: tensor cores may cut off where others round.
NUM_ROUNDINGS = 4 * 8 * TILE_BYTES
SLACK = 1.01  # above the rounding of the bound, and the parts' mass above the values'
BLOCK_TASKS = 64  # unpacked at a time: 20 MB as bytes and 80 MB as float32 for LeNet


@dataclass(frozen=True)
class DeviceBank:
    """A ``core.inference.superposition.Bank`` on the device of ``bits``.

    bits: packed, uint8 [K, P]. base: float32 [O, I] per layer, on the same device.
    """

    bits: Tensor
    base: tuple[Tensor, ...]
    rough_images: ClassVar[tuple[int, int]] = (2, 256)  # 256 gradients of LeNet are 320 MB
    shared_read_images: ClassVar[int] = 2
    tasks_at_once: ClassVar[int] = BLOCK_TASKS

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
        blocks = [self._block_products(activations, _filled(block)) for block in self._blocks(tasks)]
        return _to_numpy(torch.cat(blocks, dim=1)[:, : len(tasks)])

    def weights(self, tasks: Tasks) -> list[Tensor]:
        """See ``Bank``."""
        return _block_weights(_unpack(self._rows(tasks)), self.base)

    def rough_bank(self, num_tasks: int) -> "DeviceBank | None":
        """See ``Bank``."""
        return self if num_tasks > BLOCK_TASKS else None

    def rough_sums(self, values: Sequence[Tensor], tasks: Tasks) -> RoughSums | None:
        """See ``RoughBank``; by products in bfloat16 of each tile, added up in float64."""
        values_LN = torch.stack([one.to(self.bits.device) for one in values])
        if not bool(torch.isfinite(values_LN).all()):
            return None
        parts_TLV, lost_L = _two_parts(values_LN)
        mass_L = values_LN.abs().sum(dim=1, dtype=torch.float64)
        sums_LK = torch.cat([self._block_sums(parts_TLV, block) for block in self._blocks(tasks)], dim=1)
        error_L = SLACK * (lost_L + NUM_ROUNDINGS * UNIT_ROUNDOFF * mass_L)
        return RoughSums(_to_numpy(sums_LK), _to_numpy(error_L), _to_numpy(SLACK * mass_L))

    def _block_sums(self, parts_TLV: Tensor, block_KP: Tensor) -> Tensor:
        """Return the sums of both parts of each image's values over one block of masks, float64 [L, K]."""
        num_tiles, num_parts, _ = parts_TLV.shape
        padded = torch.nn.functional.pad(block_KP, (0, num_tiles * TILE_BYTES - block_KP.shape[1]))
        bits_TVK = _unpack(padded).to(parts_TLV.dtype).view(len(block_KP), num_tiles, -1).permute(1, 2, 0)
        return (
            _float32_products(parts_TLV, bits_TVK)
            .sum(dim=0, dtype=torch.float64)
            .view(2, num_parts // 2, -1)
            .sum(dim=0)
        )

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


def _filled(block_KP: Tensor) -> Tensor:
    """Return a block of always as many masks, so that a mask's products do not depend on the others."""
    return torch.nn.functional.pad(block_KP, (0, 0, 0, BLOCK_TASKS - len(block_KP)))


def _two_parts(values_LN: Tensor) -> tuple[Tensor, Tensor]:
    """Return two bfloat16 numbers for each value, by tile, [T, 2 L, V], and what they miss in all, float64 [L]."""
    high = values_LN.bfloat16()
    rest = values_LN - high.float()  # exact
    low = rest.bfloat16()
    lost_L = (rest - low.float()).abs().sum(dim=1, dtype=torch.float64)
    parts, tile_bits = torch.cat([high, low]), 8 * TILE_BYTES
    padded = torch.nn.functional.pad(parts, (0, -parts.shape[1] % tile_bits))
    return padded.view(len(parts), -1, tile_bits).transpose(0, 1), lost_L


def _float32_products(a_TLV: Tensor, b_TVK: Tensor) -> Tensor:
    """Return the products of bfloat16 matrices, added up in float32 throughout."""
    if not a_TLV.is_cuda:
        return torch.bmm(a_TLV.float(), b_TVK.float())
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        return torch.bmm(a_TLV, b_TVK.contiguous(), out_dtype=torch.float32)
    finally:
        settings.allow_bf16_reduced_precision_reduction = before


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
