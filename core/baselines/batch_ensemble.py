"""BatchE: shared weights W and, for each task and layer, vectors t over inputs and r over outputs.

A layer computes y = r * W(t * x), with effective weights W * (r t^T). W is trained with the first task
and then fixed, or random (Rand W); the vectors are trained for each task, starting from random signs.
The rank-one matrices superpose as masks do, so the task can be inferred in one shot.

Letters: K tasks, O and I a layer's outputs and inputs.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.baselines.method import Plain, Values
from core.batches.images import classified, images_at_test
from core.batches.problem import Problem
from core.data.test_rows import InferredRows, blank_rows, deciding_images
from core.inference.objectives import logit_gradient
from core.seeding import stream
from core.specs.inference import InferenceSpec, Objective

NUM_BEST = 5


class BatchEnsemble(Plain):
    """Values: shared ``w0``, ``w1``, ... and, by task, ``task/in0``, ... (t) and ``task/out0``, ... (r)."""

    def begin(self, values: Values, task: int) -> None:
        """See ``Method``."""
        if task == 0:
            shared = self.new_weights(range(self.num_layers))
            values.update({f"w{layer}": weight for layer, weight in enumerate(shared)})
        for layer, shape in enumerate(self.problem.module.shapes):
            draw = stream(self.problem.spec.seed, "baseline", task, layer, 1)
            for name, size in (("in", shape[1]), ("out", shape[0])):
                signs = draw.integers(0, 2, size=size).astype(np.float32) * 2 - 1
                values[f"{task}/{name}{layer}"] = torch.from_numpy(signs).to(self.problem.device)

    def trained(self, task: int) -> list[str]:
        """Return the vectors and, with the first task, W, unless it stays random."""
        vectors = [f"{task}/{name}{layer}" for layer in range(self.num_layers) for name in ("in", "out")]
        baseline = self.problem.spec.baseline
        if task > 0 or (baseline is not None and baseline.random_weights):
            return vectors
        return [*vectors, *(f"w{layer}" for layer in range(self.num_layers))]

    def weights(self, values: Values, task: int, course: int | None = None) -> list[Tensor]:
        """See ``Method``."""
        del course
        return [values[f"w{layer}"] * self.rank_one(values, task, layer) for layer in range(self.num_layers)]

    def rank_one(self, values: Values, task: int, layer: int) -> Tensor:
        """Return r t^T in the shape that multiplies a layer's weights, [O, I] or [O, I, 1, 1]."""
        rank_one_OI = torch.outer(values[f"{task}/out{layer}"], values[f"{task}/in{layer}"])
        num_more = len(self.problem.module.shapes[layer]) - 2
        return rank_one_OI.view(*rank_one_OI.shape, *[1] * num_more)

    def alpha_gradient(
        self, values: Values, tasks: Sequence[int], x_BCHW: Tensor, objective: Objective
    ) -> NDArray[np.float64]:
        """Return dObjective/dalpha at the uniform superposition of rank-one matrices, float64 [K].

        The objective is averaged over the images; the lowest gradient wins (paper, eq. 4). Batch
        normalisation uses the batch's statistics.
        """
        network, mixed = self.problem.module, []
        for layer in range(self.num_layers):
            mean = torch.stack([self.rank_one(values, task, layer) for task in tasks]).mean(dim=0)
            mixed.append((values[f"w{layer}"] * mean).detach().requires_grad_())
        logits_BO = network.train_logits(x_BCHW, mixed, network.start_statistics(self.problem.device))
        num_classes = self.problem.spec.benchmark.real_classes
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


def infer_rank_one(
    problem: Problem,
    method: BatchEnsemble,
    values: Values,
    spec: InferenceSpec,
    *,
    task: int,
    num_tasks: int,
    num_batches: int | None,
) -> InferredRows:
    """Infer the task of the test images of ``task`` among the first ``num_tasks``; classify them."""
    view, benchmark = problem.view(task), problem.spec.benchmark
    rows = blank_rows(spec.images, len(view.test_rows), num_batches)
    inferred, ranks, correct = [], [], []
    deciding = deciding_images(spec, rows, seed=problem.spec.seed, task=task)
    for first, num, images in zip(rows.first_image.tolist(), rows.num_images.tolist(), deciding, strict=True):
        chosen = view.test_rows[first : first + num]
        x_NCHW = images_at_test(benchmark, view, problem.test, chosen)
        x_BCHW = x_NCHW[images - first]
        gradient_K = method.alpha_gradient(values, range(num_tasks), x_BCHW, spec.objective)
        order = np.argsort(gradient_K, kind="stable")
        rank = int(np.flatnonzero(order == task)[0]) + 1
        inferred.append(int(order[0]))
        ranks.append(rank if rank <= NUM_BEST else 0)
        weights, statistics_S = method.weights(values, inferred[-1]), values[method.statistics(inferred[-1])]
        run = partial(problem.module.logits, weights=weights, statistics_S=statistics_S)
        is_right = classified(benchmark, view, problem.test, chosen, run)
        correct.append(int(is_right.sum()))
    return replace(
        rows,
        inferred_task=_int32(inferred),
        rank=_int32(ranks),
        num_correct=_int32(correct),
        exact_task=np.full(len(inferred), -1, dtype=np.int32),
        deciding_image=_int32([int(view.test_rows[one[0]]) for one in deciding]),
    )


def _int32(values: list[int]) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)
