"""The superposition of supermasks, and its gradient with respect to alpha, from packed bits.

The uniform superposition of k tasks is base * (number of their masks that keep a weight) / k, which
takes integer counts instead of k x n floats (paper, eq. 2 at alpha = 1/k). The gradient of an
objective with respect to alpha_i is the sum over layers of < dObjective/dW * base, mask i >, where W
are the superposed weights; it takes one pass through the superposition, and then each mask's bits:

- ``sums``: one inference (of one image, or of several that decide together) computes the gradient of
  all weights once, and sums it where a mask has a 1.
- ``products``: many separate single-image inferences share the reading of a mask. With delta the
  gradient at a layer's output and h its input, the gradient is delta^T (base * mask) h, summed over
  layers, so no image needs its own weight gradient in memory.

Letters: K tasks, B images, D input pixels, O and I a layer's outputs and inputs, P bytes of a
packed mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import InferenceError
from core.inference.objectives import logit_gradient
from core.masks.bits import Shapes, packed_num_bytes
from core.masks.packed_sums import Planes, Tiles, bit_counts, from_planes, from_tiles, masked_sums, to_planes
from core.masks.packed_tables import LANES, RoughSums, blank_values, can_look_up, rough_sums
from core.specs.inference import Objective

Tasks = NDArray[np.int64]
ROUGH_TASKS = 128  # fewer do not pay for the tables


@dataclass(frozen=True)
class Activations:
    """Results of one pass of B images through a superposition.

    inputs: h, each layer's input [B, I]. deltas: the gradient of each image's own objective at each
    layer's output [B, O].
    """

    inputs: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]

    def __len__(self) -> int:
        """Return the number of images B."""
        return len(self.inputs[0])

    def rows(self, images: slice) -> "Activations":
        """Return those of some of the images."""
        return Activations(tuple(h[images] for h in self.inputs), tuple(d[images] for d in self.deltas))


class Bank(Protocol):
    """The masks of tasks 0 .. num_tasks - 1 over one base network; ``tasks`` are always ascending."""

    @property
    def base(self) -> tuple[Tensor, ...]:
        """The fixed weights, [O, I] per layer."""
        ...

    @property
    def num_tasks(self) -> int:
        """Number of masks."""
        ...

    def counts(self, tasks: Tasks) -> Planes:
        """Count how many masks of ``tasks`` have a 1 at each bit, int32 planes."""
        ...

    def sums(self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum the values in ``planes`` that each mask keeps, over the chosen tiles, float64 [tasks]."""
        ...

    def top_k_lowest(
        self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64], num: int
    ) -> tuple[NDArray[np.float64], Tasks]:
        """Return the ``num`` lowest ``sums`` and their tasks, best first; ties go to the lower task."""
        ...

    def products(self, activations: Activations, tasks: Tasks) -> NDArray[np.float64]:
        """Return the gradient of each image's objective with respect to each alpha, float64 [B, tasks]."""
        ...

    @property
    def shared_read_images(self) -> int:
        """From how many separate images on ``products`` of all are quicker than ``sums`` for each."""
        ...

    @property
    def tasks_at_once(self) -> int:
        """How many tasks' weights to form at once."""
        ...

    def weights(self, tasks: Tasks) -> list[Tensor]:
        """Return base * mask of a few tasks, [tasks, O, I] per layer."""
        ...

    def rough_bank(self, num_tasks: int) -> "RoughBank | None":
        """Return the bank for rough sums of so many tasks; None where exact sums are as quick."""
        ...

    def packed(self, tasks: Tasks) -> NDArray[np.uint8]:
        """Return packed masks, uint8 [tasks, P]."""
        ...


class RoughBank(Protocol):
    """Sums values over masks quickly, with a known error. rough_images: how few and how many images at once."""

    rough_images: ClassVar[tuple[int, int]]

    def rough_sums(self, values: Sequence[Tensor], tasks: Tasks) -> RoughSums | None:
        """Sum each image's values [N], one per bit, that each mask keeps; None for values that cannot be summed so.

        The rows of the answer are those of the images; more may follow.
        """
        ...


@dataclass(frozen=True)
class MaskBank:
    """A ``Bank`` in this process.

    tiles: uint8 [T, K, 256] (``packed_sums``), in memory or mapped from a file; a bank larger
    than memory is read tile by tile. num_threads: for the loops over packed bits.
    """

    tiles: Tiles
    base: tuple[Tensor, ...]
    num_threads: int = 1
    # Fewer leave most lanes of the tables empty.
    rough_images: ClassVar[tuple[int, int]] = (4, LANES)
    # From this many separate images on, unpacking a mask once for all is cheaper than a sum for each.
    shared_read_images: ClassVar[int] = 32
    tasks_at_once: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.num_tasks == 0:
            raise InferenceError("the mask bank is empty; train at least one task first")

    @property
    def num_tasks(self) -> int:
        """Number of masks."""
        return int(self.tiles.shape[1])

    @property
    def shapes(self) -> Shapes:
        """The weight shape of each layer."""
        return [tuple(weight.shape) for weight in self.base]

    def counts(self, tasks: Tasks) -> Planes:
        """See ``Bank``."""
        return bit_counts(self.tiles, tasks, num_threads=self.num_threads)

    def sums(self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Bank``."""
        return masked_sums(self.tiles, tasks, planes, chosen, num_threads=self.num_threads)

    def top_k_lowest(
        self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64], num: int
    ) -> tuple[NDArray[np.float64], Tasks]:
        """See ``Bank``."""
        return top_k_lowest(self.sums(planes, tasks, chosen), tasks, num)

    def products(self, activations: Activations, tasks: Tasks) -> NDArray[np.float64]:
        """See ``Bank``."""
        out = np.empty((len(activations.inputs[0]), len(tasks)))
        for column in range(len(tasks)):
            weights = mask_weights(self.packed(tasks[column : column + 1])[0], self.base)
            by_layer = [
                ((h_BI @ weight_OI.T) * delta_BO).sum(dim=1, dtype=torch.float64)
                for h_BI, delta_BO, weight_OI in zip(
                    activations.inputs, activations.deltas, weights, strict=True
                )
            ]
            out[:, column] = reduce(torch.add, by_layer).cpu().numpy()
        return out

    def weights(self, tasks: Tasks) -> list[Tensor]:
        """See ``Bank``."""
        return stacked_weights(self.packed(tasks), self.base)

    def rough_bank(self, num_tasks: int) -> "MaskBank | None":
        """See ``Bank``."""
        is_float32 = self.base[0].dtype == torch.float32
        return self if num_tasks >= ROUGH_TASKS and is_float32 and can_look_up() else None

    def rough_sums(self, values: Sequence[Tensor], tasks: Tasks) -> RoughSums | None:
        """See ``RoughBank``; by tables of partial sums (``core.masks.packed_tables``)."""
        values_LN = blank_values(self.tiles)
        for row, values_N in zip(values_LN, values, strict=False):
            row[: len(values_N)] = values_N.numpy()
        return rough_sums(self.tiles, tasks, values_LN, num_threads=self.num_threads)

    def packed(self, tasks: Tasks) -> NDArray[np.uint8]:
        """See ``Bank``."""
        return from_tiles(self.tiles[:, tasks], packed_num_bytes(self.shapes))


@dataclass(frozen=True)
class Superposition:
    """The uniform superposition of ``tasks``. weights: [O, I] per layer."""

    tasks: Tasks
    weights: tuple[Tensor, ...]


def first_tasks(bank: Bank, k: int) -> Tasks:
    """Return tasks 0 .. k - 1. Raises InferenceError if the bank has fewer, or k is below 1."""
    if not 1 <= k <= bank.num_tasks:
        raise InferenceError(
            f"k: found {k}, expected a number from 1 to {bank.num_tasks}, the number of tasks"
        )
    return np.arange(k)


def superpose(bank: Bank, tasks: Tasks) -> Superposition:
    """Return base * (mean of the masks of ``tasks``), from integer counts (eq. 2, alpha = 1/k)."""
    num_bytes = packed_num_bytes([tuple(weight.shape) for weight in bank.base])
    counts = _layer_values(from_planes(bank.counts(tasks), num_bytes), bank.base)
    shares = [(count.to(weight.dtype) / len(tasks)) for count, weight in zip(counts, bank.base, strict=True)]
    return Superposition(tasks, tuple(w * share for w, share in zip(bank.base, shares, strict=True)))


def forward_plain(x_BD: Tensor, weights: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Return each layer's input [B, I] and the logits [B, O] of one network; weights [O, I] per layer."""
    inputs = [x_BD]
    for weight_OI in weights[:-1]:
        inputs.append((inputs[-1] @ weight_OI.T).relu())
    return inputs, inputs[-1] @ weights[-1].T


def pass_through(
    x_BD: Tensor, weights: Sequence[Tensor], objective: Objective, num_classes: int
) -> Activations:
    """Run B images forward and each image's own objective backward through ``weights``."""
    inputs, logits_BO = forward_plain(x_BD, weights)
    deltas = [logit_gradient(logits_BO, objective, num_classes)]
    for layer in range(len(weights) - 1, 0, -1):
        deltas.append((deltas[-1] @ weights[layer]) * (inputs[layer] > 0))
    return Activations(tuple(inputs), tuple(reversed(deltas)))


def gradient_planes(activations: Activations, base: Sequence[Tensor]) -> Planes:
    """Return dObjective/dW * base as planes, for the mean objective of the images."""
    return to_planes(gradient_values(activations, base).cpu().numpy())


def gradient_values(activations: Activations, base: Sequence[Tensor]) -> Tensor:
    """Return dObjective/dW * base of each bit of a packed mask [N], for the mean objective of the images."""
    num_images = len(activations.inputs[0])
    bit_values = base[0].new_zeros(sum(num_bits(weight) for weight in base))
    start = 0
    for h_BI, delta_BO, weight_OI in zip(activations.inputs, activations.deltas, base, strict=True):
        layer_OI = bit_values[start : start + weight_OI.numel()].view(weight_OI.shape)
        torch.mm((delta_BO / num_images).T, h_BI, out=layer_OI).mul_(weight_OI)
        start += num_bits(weight_OI)
    return bit_values


def mask_weights(packed_P: NDArray[np.uint8], base: Sequence[Tensor]) -> list[Tensor]:
    """Return base * mask, [O, I] per layer."""
    if can_look_up() and all(_is_plain(weight) for weight in base):
        return _selected(packed_P, base)
    bits = _layer_values(np.unpackbits(packed_P, bitorder="little"), base)
    return [bit * weight for bit, weight in zip(bits, base, strict=True)]


def _is_plain(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and weight.is_contiguous()


def stacked_weights(packed_KP: NDArray[np.uint8], base: Sequence[Tensor]) -> list[Tensor]:
    """Return base * mask of K masks, [K, O, I] per layer."""
    by_task = [mask_weights(packed_P, base) for packed_P in packed_KP]
    if len(by_task) == 1:  # as always on a CPU, where a copy would cost half as much as the weights
        return [weight.unsqueeze(0) for weight in by_task[0]]
    return [torch.stack(layer) for layer in zip(*by_task, strict=True)]


def _selected(packed_P: NDArray[np.uint8], base: Sequence[Tensor]) -> list[Tensor]:
    from core.masks.weight_loops import select  # imports numba and compiles, so only when needed

    weights, first = [], 0
    for weight in base:
        kept, last = torch.empty_like(weight), first + num_bits(weight) // 8
        select(packed_P[first:last], weight.detach().numpy().reshape(-1), kept.numpy().reshape(-1))
        weights.append(kept)
        first = last
    return weights


def top_k_lowest(values: NDArray[np.float64], tasks: Tasks, num: int) -> tuple[NDArray[np.float64], Tasks]:
    """Return the ``num`` lowest values and their tasks, best first; ties go to the lower task."""
    order = np.lexsort((tasks, values))[:num]
    return values[order], tasks[order]


def num_bits(weight: Tensor) -> int:
    """Return the number of bits of a layer in a packed mask, padding included."""
    return -(-weight.numel() // 8) * 8


def _layer_values(bit_values: NDArray[np.generic], base: Sequence[Tensor]) -> list[Tensor]:
    """Split one value per mask bit into layers, [O, I] each, on the device of ``base``."""
    layers, start = [], 0
    for weight in base:
        flat = bit_values[start : start + weight.numel()]
        layers.append(torch.from_numpy(flat).reshape(weight.shape).to(weight.device))
        start += num_bits(weight)
    return layers
