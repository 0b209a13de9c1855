"""BatchE: one set of weights W, and for each task signs t of the inputs and r of the outputs of a layer.

A task sees y = r * W(t * x), which is W * (r t^T). W is trained with the first task and then fixed,
or random (Rand W); the vectors are trained for every task, from +1 and -1 at random. The tasks'
rank-one matrices superpose as masks do, so the task can be inferred in one shot.

Letters: K tasks, O and I a layer's outputs and inputs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.baselines.method import Plain, Values
from core.inference.objectives import logit_gradient
from core.seeding import stream
from core.specs.run import Objective


class BatchEnsemble(Plain):
    """Values: w0, w1 and so on, shared, and for each task ``task/in0`` (t) and ``task/out0`` (r) and so on."""

    def begin(self, values: Values, task: int) -> None:
        """See ``Method``."""
        if task == 0:
            shared = self.new_weights(range(self.num_layers))
            values.update({f"w{layer}": weight for layer, weight in enumerate(shared)})
        for layer, shape in enumerate(self.setting.network.shapes):
            draw = stream(self.setting.spec.seed, "baseline", task, layer, 1)
            for name, size in (("in", shape[1]), ("out", shape[0])):
                signs = draw.integers(0, 2, size=size).astype(np.float32) * 2 - 1
                values[f"{task}/{name}{layer}"] = torch.from_numpy(signs).to(self.setting.device)

    def trained(self, task: int) -> list[str]:
        """Return the vectors and, with the first task, W, unless it stays random."""
        vectors = [f"{task}/{name}{layer}" for layer in range(self.num_layers) for name in ("in", "out")]
        baseline = self.setting.spec.baseline
        if task > 0 or (baseline is not None and baseline.random_weights):
            return vectors
        return [*vectors, *(f"w{layer}" for layer in range(self.num_layers))]

    def weights(self, values: Values, task: int, course: int | None = None) -> list[Tensor]:
        """See ``Method``."""
        del course
        return [values[f"w{layer}"] * self.rank_one(values, task, layer) for layer in range(self.num_layers)]

    def rank_one(self, values: Values, task: int, layer: int) -> Tensor:
        """Return r t^T as it multiplies a layer's weights, [O, I] or [O, I, 1, 1]."""
        rank_one_OI = torch.outer(values[f"{task}/out{layer}"], values[f"{task}/in{layer}"])
        num_more = len(self.setting.network.shapes[layer]) - 2
        return rank_one_OI.view(*rank_one_OI.shape, *[1] * num_more)

    def alpha_gradient(
        self, values: Values, tasks: Sequence[int], x_BCHW: Tensor, objective: Objective
    ) -> NDArray[np.float64]:
        """Return dObjective/dalpha at the uniform superposition of rank-one matrices, float64 [K].

        The objective is the mean over the images; the lowest wins (paper, eq. 4). Normalised by the batch.
        """
        network, mixed = self.setting.network, []
        for layer in range(self.num_layers):
            mean = torch.stack([self.rank_one(values, task, layer) for task in tasks]).mean(dim=0)
            mixed.append((values[f"w{layer}"] * mean).detach().requires_grad_())
        logits_BO = network.train_logits(x_BCHW, mixed, network.start_statistics(self.setting.device))
        num_classes = self.setting.spec.benchmark.real_classes
        delta_BO = logit_gradient(logits_BO.detach(), objective, num_classes) / len(x_BCHW)
        grads = torch.autograd.grad(logits_BO, mixed, delta_BO)
        gradient = np.zeros(len(tasks))
        for layer, grad in enumerate(grads):
            by_weight = grad * values[f"w{layer}"]
            for k, task in enumerate(tasks):
                gradient[k] += float(
                    (by_weight * self.rank_one(values, task, layer)).sum(dtype=torch.float64)
                )
        return gradient
