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
from core.errors import InferenceError
from core.inference.many_masks import logits_by_task
from core.inference.objectives import NO_STATISTICS, logit_gradient
from core.inference.superposition import Bank, Superposition, Tasks, mask_weights, num_bits
from core.masks.packed_sums import Planes, to_planes
from core.networks.module import ModuleNetwork, statistics_slices
from core.specs.benchmark import BenchmarkSpec
from core.specs.inference import InferenceSpec

NORM_EPS = 1e-5  # what batch normalisation adds to a variance


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

    def own_logits(self, x_BD: Tensor, bank: Bank, tasks_B: Tasks) -> Tensor:
        """Return the logits [B, O] of each image under the mask of its own task."""
        return logits_by_task(self, x_BD, bank, tasks_B)

    def divergences(self, x_GND: Tensor, bank: Bank, tasks: Tasks, num_norms: int) -> Tensor:
        """Return how far each group's channel statistics are from each task's, [tasks, G].

        The Kullback-Leibler divergence of Gaussians, from the running statistics of the task to those of the N
        images under its mask, is averaged over the channels of each of the first ``num_norms`` normalisations.
        Raises InferenceError without any.
        """
        if not self.network.norms:
            raise InferenceError(NO_STATISTICS)
        x_GNCHW = x_GND.view(*x_GND.shape[:2], *self.network.image_shape)
        places = dict(statistics_slices(self.network.norms))
        rows = []
        for i, task in enumerate(tasks):
            weights, statistics_S = (
                mask_weights(bank.packed(tasks[i : i + 1])[0], self.base),
                self.statistics[task],
            )
            seen = self.network.norm_moments(x_GNCHW, weights, statistics_S, num_norms)
            own = [
                (statistics_S[places[f"{name}.running_mean"]], statistics_S[places[f"{name}.running_var"]])
                for name, _, _ in seen
            ]
            parts = [divergence(mean, var, *one) for (_, mean, var), one in zip(seen, own, strict=True)]
            rows.append(torch.stack(parts).mean(dim=0))
        return torch.stack(rows)

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


def divergence(mean_GC: Tensor, var_GC: Tensor, own_mean_C: Tensor, own_var_C: Tensor) -> Tensor:
    """Return the mean over channels of KL(images || task), both Gaussian, [G]."""
    ratio_GC = (var_GC + NORM_EPS) / (own_var_C + NORM_EPS)
    shift_GC = (mean_GC - own_mean_C) ** 2 / (own_var_C + NORM_EPS)
    return 0.5 * (ratio_GC + shift_GC - 1 - ratio_GC.log()).mean(dim=1)


def _bit_values(grads: Sequence[Tensor], base: Sequence[Tensor]) -> Tensor:
    """Return gradient times base weight for each bit of a packed mask, float32."""
    values = base[0].new_zeros(sum(num_bits(weight) for weight in base))
    start = 0
    for grad, weight in zip(grads, base, strict=True):
        values[start : start + weight.numel()] = (grad * weight).flatten()
        start += num_bits(weight)
    return values
