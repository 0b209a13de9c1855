"""HopSupSup's networks, with masks on the outputs of hidden layers: D bits per layer.

Hidden layer: swish(m * BN(W x)), m in {0, 1} [D]. Batch normalisation has no affine parameters and
always uses the statistics of the batch, so a prediction depends on the other images in it. The last
layer is linear and unmasked. Weights are the fixed ones of ``core.networks``.

Letters: B images of a batch, D outputs of a masked layer, O and I a layer's outputs and inputs.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels, gather_inputs
from core.batches.problem import Problem
from core.errors import TrainingError
from core.specs.inference import TEST_BATCH_SIZE
from core.training.cohort import CohortResult, image_order
from core.training.loop import LOSS_WINDOW_STEPS
from core.training.optimizers import Optimizer

NORM_EPS = 1e-5


def forward_masked(x_BI: Tensor, base: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Return the logits [B, O] under ``masks``, float32 [D] for each layer but the last."""
    hidden = x_BI
    for weight_OI, mask_D in zip(base[:-1], masks, strict=True):
        hidden = torch.nn.functional.silu(mask_D * _normalised(hidden @ weight_OI.T))
    return hidden @ base[-1].T


def train_outputs(problem: Problem, tasks: Sequence[int]) -> CohortResult:
    """Train the masks of ``tasks``, one after another; masks are bool [K, D] per masked layer.

    Raises TrainingError if a loss is not finite.
    """
    start_s = time.perf_counter()
    trained = [_train(problem, task) for task in tasks]
    seconds = time.perf_counter() - start_s
    return CohortResult(
        tasks=tuple(tasks),
        masks=tuple(np.stack(layer) for layer in zip(*(mask for mask, _ in trained), strict=True)),
        train_loss=np.array([loss for _, loss in trained], dtype=np.float32),
        train_seconds=seconds / len(tasks),
    )


def _train(problem: Problem, task: int) -> tuple[list[NDArray[np.bool_]], float]:
    """Return a task's mask and loss. Scores start at zero, so the first mask keeps everything."""
    training, base = problem.spec.training, problem.base
    scores = [torch.zeros(weight.shape[0], device=problem.device) for weight in base[:-1]]
    optimizer = Optimizer(training.optimizer)
    buffers, step = [optimizer.buffers(layer) for layer in scores], torch.zeros((), dtype=torch.float64)
    losses = []
    for x_BI, labels_B in _batches(problem, task):
        masks = [(layer >= 0).float().requires_grad_() for layer in scores]
        loss = torch.nn.functional.cross_entropy(forward_masked(x_BI, base, masks), labels_B)
        step.add_(1)
        # Straight-through: the mask's gradient is the score's.
        for layer, grad_D in enumerate(torch.autograd.grad(loss, masks)):
            optimizer.update(scores[layer], grad_D, buffers[layer], step)
        losses.append(loss.detach())
    mean_loss = float(torch.stack(losses[-LOSS_WINDOW_STEPS:]).mean())
    if not np.isfinite(mean_loss):
        raise TrainingError(f"the loss of task {task} is not finite; lower training.optimizer.lr")
    return [(layer >= 0).cpu().numpy() for layer in scores], mean_loss


def correct_outputs(
    problem: Problem, tasks: Sequence[int], masks: Sequence[NDArray[np.bool_]]
) -> list[NDArray[np.bool_]]:
    """Return which test images of each task its mask classifies correctly, bool [test rows].

    masks: bool [K, D] per masked layer.
    """
    found = []
    for k, task in enumerate(tasks):
        x_NI, labels_N = task_images(problem, task, problem.test, problem.view(task).test_rows)
        found.append(correct_with_masks(x_NI, labels_N, problem.base, [layer[k] for layer in masks]))
    return found


def correct_with_masks(
    x_NI: Tensor, labels_N: Tensor, base: Sequence[Tensor], mask: Sequence[NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Return which images are classified correctly, bool [N], in consecutive batches of 128."""
    masks = [torch.from_numpy(part).to(base[0].device).float() for part in mask]
    parts = [
        forward_masked(x_BI, base, masks).argmax(dim=1) == labels_B
        for x_BI, labels_B in zip(
            torch.split(x_NI, TEST_BATCH_SIZE), torch.split(labels_N, TEST_BATCH_SIZE), strict=True
        )
    ]
    return np.asarray(torch.cat(parts).cpu().numpy())


def task_images(
    problem: Problem, task: int, pixels: Pixels, rows: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Return images ``rows`` as ``task`` sees them, float32 [N, I], and their labels [N]."""
    device, view = problem.device, problem.view(task)
    rows_1N = torch.from_numpy(rows).to(device).unsqueeze(0)
    gather_1I = torch.from_numpy(view.input_gather).to(device).unsqueeze(0)
    return gather_inputs(pixels, gather_1I, rows_1N)[0], pixels.labels[rows_1N[0]]


def _batches(problem: Problem, task: int) -> Iterator[tuple[Tensor, Tensor]]:
    training, view = problem.spec.training, problem.view(task)
    needed = (
        training.num_steps * training.batch_size
        if training.epochs is None
        else training.epochs * len(view.train_rows)
    )
    order = image_order(problem.spec, task, view, needed)
    for start in range(0, needed, training.batch_size):
        rows = order[start : start + training.batch_size].astype(np.int64)
        if len(rows) > 1:  # one image alone has no batch statistics
            yield task_images(problem, task, problem.train, rows)


def _normalised(z_BD: Tensor) -> Tensor:
    variance, mean = torch.var_mean(z_BD, dim=0, correction=0)
    return (z_BD - mean) * torch.rsqrt(variance + NORM_EPS)
