"""Cohort training: K independent tasks as one batched computation.

The effective weights of task k are base * (score >= 0). The straight-through rule
passes the mask's gradient to the score unchanged (paper, section 2), so
dL/dscore = dL/d(effective weight) * base.

On a CPU the bits of a mask do not depend on the tasks trained beside it. The ``fused`` engine
trains one task at a time. In a cohort of the ``eager`` one a batched product is K separate
products and the rest works element by element; there it holds for layers of a multiple of 16
weights, since MKL may round otherwise where a matrix does not start at a multiple of 64 bytes.

Letters: K tasks, B images of a batch, D input pixels, N images, O and I a layer's outputs
and inputs, T training steps.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.benchmarks import TaskView, task_view
from core.datasets import Dataset
from core.errors import TrainingError
from core.gradients import FixedWeights, fix_weights, gradients
from core.inputs import Pixels, gather_inputs
from core.optimizers import Optimizer
from core.seeding import stream
from core.specs import RunSpec, TrainingSpec

LOSS_WINDOW_STEPS = 100  # train_loss is the mean over the last steps of this many
# (pixels, gather [K, D], rows [K, B], fixed weights, state) -> loss [K]; changes the state.
StepFunction = Callable[[Pixels, Tensor, Tensor, FixedWeights, "CohortState"], Tensor]


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
class Step:
    """A training step, and how many tasks it takes at a time: None for a whole cohort."""

    run: StepFunction
    tasks_at_once: int | None = None


@dataclass(frozen=True)
class CohortState:
    """All that a step changes: per layer [K, O, I] scores, effective weights, buffers.

    Scores are float32; effective weights have the dtype of the products, buffers that of
    ``OptimizerSpec.state``.
    """

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
    step: Step,
) -> CohortResult:
    """Train the masks of ``tasks`` and return them.

    pixels: the training images on the device. base: fixed weights [O, I] on the device.
    step: from ``engine.make_step``. Raises TrainingError when a loss is not finite.
    """
    fixed = fix_weights(base, spec.training.matmul)
    size = step.tasks_at_once or len(tasks)
    parts = [
        _train_together(spec, tasks[start : start + size], dataset, partial(step.run, pixels), fixed)
        for start in range(0, len(tasks), size)
    ]
    return CohortResult(
        tasks=tuple(tasks),
        masks=tuple(np.concatenate(layer) for layer in zip(*(part.masks for part in parts), strict=True)),
        train_loss=np.concatenate([part.train_loss for part in parts]),
        train_seconds=sum(part.train_seconds * len(part.tasks) for part in parts) / len(tasks),
    )


def _train_together(
    spec: RunSpec,
    tasks: Sequence[int],
    dataset: Dataset,
    run_step: Callable[[Tensor, Tensor, FixedWeights, CohortState], Tensor],
    fixed: FixedWeights,
) -> CohortResult:
    device = fixed.base[0].device
    views = [task_view(spec.benchmark, dataset, task, seed=spec.seed) for task in tasks]
    gather_KD = torch.from_numpy(np.stack([view.input_gather for view in views])).to(device)
    order_KT, state = _draw(spec, tasks, views, fixed)
    with _tf32(enabled=spec.training.matmul == "tf32"):
        losses, seconds = _run_steps(
            spec.training, order_KT, lambda rows_KB: run_step(gather_KD, rows_KB, fixed, state)
        )
    return CohortResult(
        tasks=tuple(tasks),
        masks=tuple((scores >= 0).cpu().numpy() for scores in state.scores),
        train_loss=_mean_loss(tasks, losses),
        train_seconds=seconds / len(tasks),
    )


def _run_steps(
    training: TrainingSpec, order_KT: Tensor, step: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], float]:
    """Run all steps; return the losses [K] of the last ones, and the seconds without compilation.

    Nothing in the loop waits for the device: steps queue up, and the end waits once.
    """
    losses, size, start_s = [], training.batch_size, time.perf_counter()
    num_steps = training.num_steps
    for t in range(num_steps):
        if t == 1:  # the first step compiles, so the clock starts at the second
            _synchronize(order_KT.device)
            start_s = time.perf_counter()
        loss_K = step(order_KT[:, t * size : (t + 1) * size])
        if t >= num_steps - LOSS_WINDOW_STEPS:
            losses.append(loss_K)
    _synchronize(order_KT.device)
    elapsed_s = time.perf_counter() - start_s
    return losses, elapsed_s * num_steps / max(num_steps - 1, 1)


def eager_step(optimizer: Optimizer) -> StepFunction:
    """Return the reference step: plain PyTorch, one kernel after another.

    It updates ``state`` in place and returns the loss before the update, float32 [K].
    """

    def step(
        pixels: Pixels, gather_KD: Tensor, rows_KB: Tensor, fixed: FixedWeights, state: CohortState
    ) -> Tensor:
        x_KBD = gather_inputs(pixels, gather_KD, rows_KB)
        grads, loss_K = gradients(x_KBD, pixels.labels[rows_KB], state.effective, fixed.gains)
        state.step.add_(1)
        for layer, grad_KOI in enumerate(grads):
            scores = state.scores[layer]
            optimizer.update(scores, grad_KOI.mul_(fixed.base[layer]), state.buffers[layer], state.step)
            torch.mul(fixed.operand[layer], scores >= 0, out=state.effective[layer])
        return loss_K

    return step


@contextmanager
def _tf32(*, enabled: bool) -> Iterator[None]:
    """Allow or forbid TF32 in float32 products on a GPU, for a while."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _draw(
    spec: RunSpec, tasks: Sequence[int], views: Sequence[TaskView], fixed: FixedWeights
) -> tuple[Tensor, CohortState]:
    """Draw each task's order of images, int32 [K, T * B], and its start; both on the device.

    Each task has streams of its own, so threads change nothing; a GPU waits for all the cores.
    """
    device = fixed.base[0].device
    order_KT = np.empty((len(tasks), spec.training.num_steps * spec.training.batch_size), dtype=np.int32)
    scores = [np.empty((len(tasks), *weight.shape), dtype=np.float32) for weight in fixed.base]

    def draw(k: int) -> None:
        order_KT[k] = image_order(spec, tasks[k], views[k], order_KT.shape[1])
        draw_scores(spec.seed, tasks[k], [layer[k] for layer in scores])

    num_threads = len(os.sched_getaffinity(0)) if device.type == "cuda" else torch.get_num_threads()
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(draw, range(len(tasks))))
    on_device = [torch.from_numpy(layer).to(device) for layer in scores]
    return torch.from_numpy(order_KT).to(device), start_state(
        Optimizer(spec.training.optimizer), on_device, fixed
    )


def image_order(spec: RunSpec, task: int, view: TaskView, needed: int) -> NDArray[np.int32]:
    """Return the first ``needed`` images of a task, int32 [needed]: whole epochs, each shuffled anew."""
    rows = view.train_rows.astype(np.int32)
    draw, order, drawn = stream(spec.seed, "order", task), [], 0
    while drawn < needed:
        order.append(draw.permutation(rows))
        drawn += len(rows)
    return np.concatenate(order)[:needed]


def start_state(optimizer: Optimizer, scores: list[Tensor], fixed: FixedWeights) -> CohortState:
    """Return the state of ``scores``, [K, O, I] a layer, before the first step."""
    return CohortState(
        scores=scores,
        effective=[torch.mul(w, s >= 0) for s, w in zip(scores, fixed.operand, strict=True)],
        buffers=[optimizer.buffers(s) for s in scores],
        step=torch.zeros((), dtype=torch.float64, device=scores[0].device),
    )


def draw_scores(seed: int, task: int, scores: Sequence[NDArray[np.float32]]) -> None:
    """Fill each layer, float32 [O, I], with the task's first scores."""
    draw = stream(seed, "scores", task)
    for layer in scores:
        _fill_scores(draw, layer)


def _fill_scores(draw: np.random.Generator, out: NDArray[np.float32]) -> None:
    """Fill ``out``, float32 [O, I], from U(-1/sqrt(fan_in), +1/sqrt(fan_in))."""
    draw.random(dtype=np.float32, out=out)
    out *= 2
    out -= 1
    out *= np.float32(1 / np.sqrt(out.shape[1]))


def _mean_loss(tasks: Sequence[int], losses: list[Tensor]) -> NDArray[np.float32]:
    # Along rows: the order in which a column is summed depends on how many there are.
    loss_K = torch.stack(losses, dim=1).mean(dim=1).cpu().numpy()
    if not np.isfinite(loss_K).all():
        bad = [task for task, loss in zip(tasks, loss_K, strict=True) if not np.isfinite(loss)]
        raise TrainingError(
            f"the loss of task {', '.join(map(str, bad))} is not finite; lower training.optimizer.lr"
        )
    return loss_K.astype(np.float32)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
