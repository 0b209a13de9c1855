"""Task inference and evaluation over any module: the search model of ``core.inference.search``.

A single mask runs with the running statistics of its task. A superposition has none of its own: it
is normalised by the images that decide (``batch``), as in the original code, or by the mean of the
running statistics of its tasks (``running``).

Letters: B images, N images that decide together, D values of a flat image, P bytes of a packed mask,
O outputs, S running statistics, K tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.images import CHUNK_IMAGES, classified, images_at_test
from core.batches.inputs import Pixels
from core.data.benchmarks import TaskView
from core.inference.objectives import logit_gradient
from core.inference.superposition import Bank, Superposition, Tasks, mask_weights, num_bits
from core.masks.packed_sums import Planes, to_planes
from core.networks.module import ModuleNetwork
from core.specs.benchmark import BenchmarkSpec
from core.specs.inference import InferenceSpec


@dataclass(frozen=True)
class ModuleSearchModel:
    """An ``core.inference.search.SearchModel`` over a module. statistics: float32 [K, S], by task."""

    network: ModuleNetwork
    benchmark: BenchmarkSpec
    base: tuple[Tensor, ...]
    statistics: Tensor

    @property
    def num_inputs(self) -> int:
        """D."""
        return int(np.prod(self.network.image_shape))

    def planes(
        self, x_ND: Tensor, superposition: Superposition, spec: InferenceSpec, num_classes: int
    ) -> Planes:
        """Return dObjective/dW * base at a superposition, for the mean objective of the images."""
        weights = [weight.detach().requires_grad_() for weight in superposition.weights]
        x_NCHW = x_ND.view(-1, *self.network.image_shape)
        statistics_S = self.statistics[torch.from_numpy(superposition.tasks)].mean(dim=0)
        run = self.network.logits if spec.norms == "running" else self.network.train_logits
        logits_NO = run(x_NCHW, weights, statistics_S)
        delta_NO = logit_gradient(logits_NO.detach(), spec.objective, num_classes) / len(x_ND)
        grads = torch.autograd.grad(logits_NO, weights, delta_NO)
        return to_planes(_bit_values(grads, self.base).cpu().numpy())

    def activations(
        self, x_BD: Tensor, superposition: Superposition, spec: InferenceSpec, num_classes: int
    ) -> None:
        """Return None: the weights of a convolution meet each image in many places."""

    def logits(self, x_BD: Tensor, packed_P: NDArray[np.uint8], task: int) -> Tensor:
        """Return the logits [B, O] under one task's mask."""
        weights = mask_weights(packed_P, self.base)
        chunks = torch.split(x_BD.view(-1, *self.network.image_shape), CHUNK_IMAGES)
        with torch.no_grad():
            return torch.cat([self.network.logits(x, weights, self.statistics[task]) for x in chunks])

    def block_logits(self, x_BD: Tensor, bank: Bank, tasks: Tasks) -> Tensor:
        """Return the logits [tasks, B, O] under each of a few masks."""
        return torch.stack(
            [self.logits(x_BD, bank.packed(tasks[i : i + 1])[0], int(task)) for i, task in enumerate(tasks)]
        )

    def inputs(self, view: TaskView, pixels: Pixels, rows_N: NDArray[np.int64]) -> Tensor:
        """Return test images as the task sees them, float32 [N, D]."""
        return images_at_test(self.benchmark, view, pixels, rows_N).flatten(1)

    def correct(
        self,
        view: TaskView,
        pixels: Pixels,
        rows_N: NDArray[np.int64],
        packed_P: NDArray[np.uint8],
        task: int,
    ) -> NDArray[np.bool_]:
        """Return which images of ``view`` the mask of ``task`` classifies correctly, bool [N]."""
        weights, statistics_S = mask_weights(packed_P, self.base), self.statistics[task]
        run = partial(self.network.logits, weights=weights, statistics_S=statistics_S)
        return classified(self.benchmark, view, pixels, rows_N, run)


def _bit_values(grads: Sequence[Tensor], base: Sequence[Tensor]) -> Tensor:
    """Return gradient times base weight for each bit of a packed mask, float32."""
    values = base[0].new_zeros(sum(num_bits(weight) for weight in base))
    start = 0
    for grad, weight in zip(grads, base, strict=True):
        values[start : start + weight.numel()] = (grad * weight).flatten()
        start += num_bits(weight)
    return values
