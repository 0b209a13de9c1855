"""Cohort training: K independent tasks as one batched computation.

The effective weights of task k are base * (score >= 0). The straight-through rule
passes the mask's gradient to the score unchanged (paper, section 2), so
dL/dscore = dL/d(effective weight) * base. Backward is written by hand: a ReLU
network needs three lines of it, the input's gradient is never formed, and the whole
step compiles into one graph without autograd.

On a CPU the bits of a mask do not depend on the tasks trained beside it: a batched
product is K separate products, and everything else works element by element.

Letters: K tasks, B images of a batch, D input pixels, N images, O and I a layer's outputs
and inputs, T training steps.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.benchmarks import TaskView, task_view
from core.datasets import Dataset
from core.errors import TrainingError
from core.inputs import Pixels, gather_inputs
from core.optimizers import Optimizer
from core.seeding import stream
from core.specs import RunSpec, TrainingSpec

LOSS_WINDOW_STEPS = 100  # train_loss is the mean over the last steps of this many
StepFunction = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class CohortResult:
    """What training a cohort gives.

    masks: bool [K, O, I] a layer.
    train_loss: float32 [K], mean cross-entropy (nats) of the last 100 steps.
    train_seconds: wall time of the training loop divided by K; no compilation, no test.
    """

    tasks: tuple[int, ...]
    masks: tuple[NDArray[np.bool_], ...]
    train_loss: NDArray[np.float32]
    train_seconds: float


@dataclass(frozen=True)
class CohortState:
    """All that a step changes: per layer [K, O, I] scores, effective weights, buffers."""

    scores: list[Tensor]
    effective: list[Tensor]
    buffers: list[tuple[Tensor, ...]]
    step: Tensor  # float64 scalar: steps done


def train_cohort(
    spec: RunSpec,
    tasks: Sequence[int],
    dataset: Dataset,
    *,
    pixels: Pixels,
    base: Sequence[Tensor],
    step: StepFunction,
) -> CohortResult:
    """Train the masks of ``tasks`` and return them.

    pixels: the training images on the device. base: fixed weights [O, I] on the device.
    step: from ``engine.make_step``. Raises TrainingError when a loss is not finite.
    """
    device = base[0].device
    views = [task_view(spec.benchmark, dataset, task, seed=spec.seed) for task in tasks]
    order_KT = torch.stack([_order(spec, task, view) for task, view in zip(tasks, views, strict=True)])
    gather_KD = torch.from_numpy(np.stack([view.input_gather for view in views])).to(device)
    state = _start(spec, tasks, base)
    losses, seconds = _run_steps(
        spec.training, order_KT, lambda rows_KB: step(pixels, gather_KD, rows_KB, base, state), device
    )
    return CohortResult(
        tasks=tuple(tasks),
        masks=tuple((scores >= 0).cpu().numpy() for scores in state.scores),
        train_loss=_mean_loss(tasks, losses),
        train_seconds=seconds / len(tasks),
    )


def _run_steps(
    training: TrainingSpec, order_KT: Tensor, step: Callable[[Tensor], Tensor], device: torch.device
) -> tuple[list[Tensor], float]:
    """Run all steps; return the losses [K] of the last ones, and the seconds without compilation."""
    losses, size, start_s = [], training.batch_size, time.perf_counter()
    for t in range(training.steps):
        if t == 1:  # the first step compiles, so the clock starts at the second
            _synchronize(device)
            start_s = time.perf_counter()
        loss_K = step(order_KT[:, t * size : (t + 1) * size].to(device, non_blocking=True))
        if t >= training.steps - LOSS_WINDOW_STEPS:
            losses.append(loss_K)
    _synchronize(device)
    elapsed_s = time.perf_counter() - start_s
    return losses, elapsed_s * training.steps / max(training.steps - 1, 1)


def eager_step(optimizer: Optimizer) -> StepFunction:
    """Return the reference step: plain PyTorch, one kernel after another.

    It updates ``state`` in place and returns the loss before the update, float32 [K].
    """

    def step(
        pixels: Pixels, gather_KD: Tensor, rows_KB: Tensor, base: Sequence[Tensor], state: CohortState
    ) -> Tensor:
        x_KBD = gather_inputs(pixels, gather_KD, rows_KB)
        labels_KB = pixels.labels[rows_KB]
        grads, loss_K = _gradients(x_KBD, labels_KB, state.effective)
        state.step.add_(1)
        for layer, grad_KOI in enumerate(grads):
            scores = state.scores[layer]
            optimizer.update(scores, grad_KOI.mul_(base[layer]), state.buffers[layer], state.step)
            torch.mul(base[layer], scores >= 0, out=state.effective[layer])
        return loss_K

    return step


def forward(x_KBD: Tensor, effective: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Return each layer's input [K, B, I] and the logits [K, B, O] of the last layer."""
    inputs, hidden = [], x_KBD
    for layer, weight_KOI in enumerate(effective):
        inputs.append(hidden)
        hidden = torch.bmm(hidden, weight_KOI.transpose(1, 2))
        if layer < len(effective) - 1:
            hidden = hidden.relu()
    return inputs, hidden


def _gradients(x_KBD: Tensor, labels_KB: Tensor, effective: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Return dL/d(effective weight) a layer, [K, O, I], and the loss [K]."""
    inputs, logits_KBO = forward(x_KBD, effective)
    log_p = torch.log_softmax(logits_KBO, dim=2)
    labels_KB1 = labels_KB.unsqueeze(2)
    loss_K = -log_p.gather(2, labels_KB1).squeeze(2).mean(dim=1)
    delta = (log_p.exp() - _one_hot(labels_KB1, logits_KBO.shape[2])) / labels_KB.shape[1]
    grads: list[Tensor] = []
    for layer in range(len(effective) - 1, -1, -1):
        grads.append(torch.bmm(delta.transpose(1, 2), inputs[layer]))
        if layer > 0:
            delta = torch.bmm(delta, effective[layer]) * (inputs[layer] > 0)
    return grads[::-1], loss_K


def _one_hot(labels_KB1: Tensor, num_outputs: int) -> Tensor:
    return (torch.arange(num_outputs, device=labels_KB1.device) == labels_KB1).float()


def _order(spec: RunSpec, task: int, view: TaskView) -> Tensor:
    """Return the images of every step, int64 [T * B]: whole epochs, each shuffled anew."""
    needed = spec.training.steps * spec.training.batch_size
    draw, order, drawn = stream(spec.seed, "order", task), [], 0
    while drawn < needed:
        order.append(draw.permutation(view.train_rows))
        drawn += len(order[-1])
    return torch.from_numpy(np.concatenate(order)[:needed])


def _start(spec: RunSpec, tasks: Sequence[int], base: Sequence[Tensor]) -> CohortState:
    scores = [torch.empty(len(tasks), *weight.shape, device=weight.device) for weight in base]
    for k, task in enumerate(tasks):
        draw = stream(spec.seed, "scores", task)
        for layer in scores:
            layer[k].copy_(torch.from_numpy(start_scores(draw, (layer.shape[1], layer.shape[2]))))
    optimizer = Optimizer(spec.training.optimizer)
    return CohortState(
        scores=scores,
        effective=[torch.where(s >= 0, w, 0.0) for s, w in zip(scores, base, strict=True)],
        buffers=[optimizer.buffers(s) for s in scores],
        step=torch.zeros((), dtype=torch.float64, device=base[0].device),
    )


def start_scores(draw: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw scores from U(-1/sqrt(fan_in), +1/sqrt(fan_in)), float32 [O, I]."""
    bound = np.float32(1 / np.sqrt(shape[1]))
    return (draw.random(shape, dtype=np.float32) * 2 - 1) * bound


def _mean_loss(tasks: Sequence[int], losses: list[Tensor]) -> NDArray[np.float32]:
    loss_K = torch.stack(losses).mean(dim=0).cpu().numpy()
    if not np.isfinite(loss_K).all():
        bad = [task for task, loss in zip(tasks, loss_K, strict=True) if not np.isfinite(loss)]
        raise TrainingError(
            f"the loss of task {', '.join(map(str, bad))} is not finite; lower training.optimizer.lr"
        )
    return loss_K.astype(np.float32)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
