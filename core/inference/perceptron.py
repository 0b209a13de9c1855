"""The search model of multi-layer perceptrons, with closed-form gradients.

Letters: K tasks, B images, N images that decide together, D inputs, P bytes of a packed mask, O and I
a layer's outputs and inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels, gather_inputs
from core.data.benchmarks import TaskView
from core.errors import InferenceError
from core.inference.many_masks import ManyMasks, logits_by_task, many_masks
from core.inference.objectives import NO_STATISTICS
from core.inference.superposition import (
    Activations,
    Bank,
    MaskBank,
    Superposition,
    Tasks,
    forward_plain,
    gradient_planes,
    mask_weights,
    pass_through,
)
from core.masks.packed_sums import Planes, Tiles, to_tiles
from core.networks.perceptron import forward
from core.specs.inference import InferenceSpec

CHUNK_IMAGES = 1024  # per task and forward pass


@dataclass(frozen=True)
class PerceptronSearchModel:
    """An ``inference.search.SearchModel``. base: float32 [O, I] per layer."""

    base: tuple[Tensor, ...]

    @property
    def num_inputs(self) -> int:
        """Number of inputs D."""
        return self.base[0].shape[1]

    def activations(
        self, x_BD: Tensor, superposition: Superposition, spec: InferenceSpec, num_classes: int
    ) -> Activations:
        """Pass B images through a superposition, forward and backward."""
        return pass_through(x_BD, superposition.weights, spec.objective, num_classes)

    def planes(
        self, x_ND: Tensor, superposition: Superposition, spec: InferenceSpec, num_classes: int
    ) -> Planes:
        """Return dObjective/dW * base at a superposition, for the mean objective of the images."""
        return gradient_planes(self.activations(x_ND, superposition, spec, num_classes), self.base)

    def logits(self, x_BD: Tensor, packed_P: NDArray[np.uint8], task: int) -> Tensor:
        """Return the logits [B, O] under one task's mask."""
        del task
        return forward_plain(x_BD, mask_weights(packed_P, self.base))[1]

    def block_logits(self, x_BD: Tensor, bank: Bank, tasks: Tasks) -> Tensor:
        """Return the logits [tasks, B, O] under each of a few masks."""
        weights = bank.weights(tasks)
        if len(tasks) == 1:
            return forward_plain(x_BD, [weight_1OI[0] for weight_1OI in weights])[1].unsqueeze(0)
        return forward(x_BD.expand(len(tasks), -1, -1), weights)[1]

    def own_logits(self, x_BD: Tensor, bank: Bank, tasks_B: Tasks) -> Tensor:
        """Return the logits [B, O] of each image under the mask of its own task; a row depends on no other."""
        if self._many is None:
            return logits_by_task(self, x_BD, bank, tasks_B)
        tiles, rows_B, num_threads = _tiles(bank, tasks_B)
        return torch.from_numpy(self._many.logits(x_BD.numpy(), tiles, rows_B, num_threads=num_threads))

    @cached_property
    def _many(self) -> ManyMasks | None:
        return many_masks(self.base)

    def divergences(self, x_GND: Tensor, bank: Bank, tasks: Tasks, num_norms: int) -> Tensor:
        """Raise InferenceError: without batch normalisation there are no statistics to compare."""
        del x_GND, bank, tasks, num_norms
        raise InferenceError(NO_STATISTICS)

    def inputs(self, view: TaskView, pixels: Pixels, rows_N: NDArray[np.int64]) -> Tensor:
        """Return normalised test images as the task sees them, float32 [N, D]."""
        device = pixels.images.device
        gather_1D = torch.from_numpy(view.input_gather).to(device).unsqueeze(0)
        return gather_inputs(pixels, gather_1D, torch.from_numpy(rows_N).to(device).unsqueeze(0))[0]

    def correct(
        self,
        view: TaskView,
        pixels: Pixels,
        rows_N: NDArray[np.int64],
        packed_P: NDArray[np.uint8],
        task: int,
    ) -> NDArray[np.bool_]:
        """Return which images of ``view`` the mask of ``task`` classifies correctly, bool [N]."""
        del task
        weights = [weight.unsqueeze(0) for weight in mask_weights(packed_P, self.base)]
        (correct,) = correct_under([view], pixels, weights, [rows_N])
        return correct


def _tiles(bank: Bank, tasks_B: Tasks) -> tuple[Tiles, NDArray[np.int64], int]:
    """Return tiles that hold the masks of ``tasks_B``, which of them each is, and the number of threads."""
    if isinstance(bank, MaskBank):
        return bank.tiles, tasks_B, bank.num_threads
    tasks, rows_B = np.unique(tasks_B, return_inverse=True)
    return to_tiles(bank.packed(tasks)), rows_B, 1


def correct_under(
    views: Sequence[TaskView],
    pixels: Pixels,
    weights: Sequence[Tensor],
    rows: Sequence[NDArray[np.int64]],
) -> list[NDArray[np.bool_]]:
    """Return which ``rows`` of each task ``weights``, [K, O, I] per layer, classify correctly, bool."""
    device, most = weights[0].device, max(len(row) for row in rows)
    padded = np.stack([np.pad(row, (0, most - len(row))) for row in rows])
    gather_KD = torch.from_numpy(np.stack([view.input_gather for view in views])).to(device)
    correct = []
    for rows_KB in torch.split(torch.from_numpy(padded).to(device), CHUNK_IMAGES, dim=1):
        _, logits_KBO = forward(gather_inputs(pixels, gather_KD, rows_KB), weights)
        correct.append(logits_KBO.argmax(dim=2) == pixels.labels[rows_KB])
    correct_KN = torch.cat(correct, dim=1).cpu().numpy()
    return [found[: len(row)] for found, row in zip(correct_KN, rows, strict=True)]
