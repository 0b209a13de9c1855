"""HopSupSup's networks, with masks on the outputs of hidden layers: D bits per layer.

Hidden layer: swish(m * BN(W x)), m in {0, 1} [D]. Batch normalisation has no affine parameters and
always uses the statistics of the batch, so a prediction depends on the other images in it. The last
layer is linear and unmasked. Weights are the fixed ones of ``core.networks``.

Letters: B images of a batch, D outputs of a masked layer, O and I a layer's outputs and inputs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels, gather_inputs
from core.batches.problem import Problem
from core.specs.inference import TEST_BATCH_SIZE
from core.training.chunks import CohortResult, chunk_result, in_chunks
from core.training.cohort import image_order
from core.training.loop import Arrays, Checkpointer, Chunks, NoCheckpoints, check_scores, mean_loss, run_steps
from core.training.optimizers import Optimizer

NORM_EPS = 1e-5


def forward_masked(x_BI: Tensor, base: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Return the logits [B, O] under ``masks``, float32 [D] for each layer but the last."""
    hidden = x_BI
    for weight_OI, mask_D in zip(base[:-1], masks, strict=True):
        hidden = torch.nn.functional.silu(mask_D * _normalised(hidden @ weight_OI.T))
    return hidden @ base[-1].T


def train_outputs(
    problem: Problem, tasks: Sequence[int], checkpointer: Checkpointer | None = None
) -> CohortResult:
    """Train the masks of ``tasks``, one after another; masks are bool [K, D] per masked layer.

    Raises TrainingError if a loss or a score is not finite.
    """

    def train_chunk(chunk: Sequence[int], num_real: int, chunks: Chunks) -> Arrays:
        return _train(problem, chunk[:num_real], chunks)

    return in_chunks(tasks, 1, train_chunk, checkpointer or NoCheckpoints())


def _train(problem: Problem, tasks: Sequence[int], chunks: Chunks) -> Arrays:
    """Train one task. Scores start at zero, so the first mask keeps everything."""
    base, optimizer = problem.base, Optimizer(problem.spec.training.optimizer)
    scores = [torch.zeros(weight.shape[0], device=problem.device) for weight in base[:-1]]
    buffers, number = [optimizer.buffers(layer) for layer in scores], torch.zeros((), dtype=torch.float64)
    (task,), batches = tasks, _batches(problem, tasks[0])

    def step(t: int) -> Tensor:
        x_BI, labels_B = task_images(problem, task, problem.train, batches[t])
        masks = [(layer >= 0).float().requires_grad_() for layer in scores]
        loss = torch.nn.functional.cross_entropy(forward_masked(x_BI, base, masks), labels_B)
        number.add_(1)
        # Straight-through: the mask's gradient is the score's.
        for layer, grad_D in enumerate(torch.autograd.grad(loss, masks)):
            optimizer.update(scores[layer], grad_D, buffers[layer], number)
        return loss.detach().reshape(1)

    state = {"score": scores, "buffer": [one for layer in buffers for one in layer], "step": [number]}
    course = run_steps(step, len(batches), state, chunks)
    masks, loss_K = [(layer >= 0).unsqueeze(0) for layer in scores], mean_loss(tasks, course)
    check_scores(tasks, [layer.unsqueeze(0) for layer in scores])
    return chunk_result(masks, loss_K, course.seconds)


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


def _batches(problem: Problem, task: int) -> list[NDArray[np.int64]]:
    """Return the images of each step."""
    training, view = problem.spec.training, problem.view(task)
    needed = (
        training.num_steps * training.batch_size
        if training.epochs is None
        else training.epochs * len(view.train_rows)
    )
    order = image_order(problem.spec, task, view, needed).astype(np.int64)
    batches = np.split(order, range(training.batch_size, needed, training.batch_size))
    return [rows for rows in batches if len(rows) > 1]  # one image alone has no batch statistics


def _normalised(z_BD: Tensor) -> Tensor:
    variance, mean = torch.var_mean(z_BD, dim=0, correction=0)
    return (z_BD - mean) * torch.rsqrt(variance + NORM_EPS)
