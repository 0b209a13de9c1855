"""Cohort training: K independent tasks as one batched computation.

The effective weights of task k are base * mask (``top_k``). The straight-through rule
passes the mask's gradient to the score unchanged (paper, section 2), so
dL/dscore = dL/d(effective weight) * base.

On a CPU the bits of a mask do not depend on the other tasks of its cohort. The ``fused`` engine
trains one task at a time. With the ``eager`` one, a batched product is K separate products and the
rest is elementwise; it needs layers of a multiple of 16 weights, since MKL may round differently if
a matrix is not aligned to 64 bytes.

Letters: K tasks, B images of a batch, D input pixels, N images, O and I a layer's outputs
and inputs, T training steps.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels, gather_inputs
from core.batches.problem import Problem
from core.data.benchmarks import TaskView
from core.networks.base import fan_in
from core.networks.perceptron import FixedWeights, fix_weights, gradients
from core.seeding import stream
from core.specs.network import MaskSpec
from core.specs.run import RunSpec
from core.training.chunks import CohortResult, chunk_result, in_chunks
from core.training.loop import (
    Arrays,
    Checkpointer,
    Chunks,
    NoCheckpoints,
    check_scores,
    fill_tensors,
    mean_loss,
    run_steps,
)
from core.training.optimizers import Optimizer
from core.training.precision import gpu_products
from core.training.selection import THRESHOLD, kept_by_layer, mask_of, num_kept, score_gradient
from core.training.transfer import Earlier, start_from

# (pixels, gather [K, D], rows [K, B], fixed weights, state) -> loss [K]; changes the state.
StepFunction = Callable[[Pixels, Tensor, Tensor, FixedWeights, "CohortState"], Tensor]


@dataclass(frozen=True)
class Step:
    """A training step, and the number of tasks it trains at a time, None for a whole cohort.

    has_one_shape: whether it is compiled for a number of tasks, so that fewer are filled up to it.
    weights: what the step reads in place of a layer's weights, from ``FixedWeights.operand`` [O, I] and the
    mask, bool [K, O, I].
    """

    run: StepFunction
    tasks_at_once: int | None = None
    has_one_shape: bool = False
    weights: Callable[[Tensor, Tensor], Tensor] = torch.mul


@dataclass(frozen=True)
class TrainingContext:
    """What training may use besides the problem: an engine's step, checkpoints, and earlier tasks.

    tasks_at_once: the most that may train together; None for the whole cohort.
    """

    step: Step
    checkpointer: Checkpointer
    earlier: Earlier | None
    tasks_at_once: int | None = None


@dataclass(frozen=True)
class CohortState:
    """The state that a step updates: scores, effective weights and buffers, [K, O, I] per layer.

    Scores are float32; effective weights have the dtype of the products, unless ``Step.weights`` makes
    something else of them; buffers have that of ``OptimizerSpec.state``.
    """

    scores: list[Tensor]
    effective: list[Tensor]
    buffers: list[tuple[Tensor, ...]]
    step: Tensor  # number of steps done, float64 scalar

    def tensors(self) -> dict[str, list[Tensor]]:
        """Return the content of a checkpoint; effective weights follow from the scores."""
        buffers = [buffer for layer in self.buffers for buffer in layer]
        return {"score": self.scores, "buffer": buffers, "step": [self.step]}


def train_cohort(
    problem: Problem,
    tasks: Sequence[int],
    *,
    step: Step,
    checkpointer: Checkpointer | None = None,
    earlier: Earlier | None = None,
    tasks_at_once: int | None = None,
) -> CohortResult:
    """Train the masks of ``tasks`` and return them.

    step: from ``core.training.engine.make_step``. earlier: for ``transfer``, with a single task. tasks_at_once: of
    the run, for a step that takes a whole cohort; its shape, if it has one. Raises TrainingError if a loss or a
    score is not finite, DeviceMemoryError if not even one task fits into memory.
    """
    fixed = fix_weights(problem.base, problem.spec.training.matmul)

    def train_chunk(chunk: Sequence[int], num_real: int, chunks: Chunks) -> Arrays:
        return _train_together(problem, chunk, num_real, step, fixed, chunks, earlier)

    size = step.tasks_at_once or tasks_at_once or len(tasks)
    return in_chunks(tasks, size, train_chunk, checkpointer or NoCheckpoints(), fills_up=step.has_one_shape)


def _train_together(  # noqa: PLR0917  # called in one place
    problem: Problem,
    tasks: Sequence[int],
    num_real: int,
    step: Step,
    fixed: FixedWeights,
    chunks: Chunks,
    earlier: Earlier | None,
) -> Arrays:
    spec, views, size = problem.spec, problem.views(tasks), problem.spec.training.batch_size
    gather_KD = torch.from_numpy(np.stack([view.input_gather for view in views])).to(problem.device)
    order_KT, scores = _draw(spec, tasks, views, fixed, earlier)
    if chunks.now is not None:  # before effective weights are computed from them
        fill_tensors({"score": scores}, chunks.now)
    state = start_state(Optimizer(spec.training.optimizer), scores, fixed, spec.mask, weights=step.weights)
    with gpu_products(spec.training.matmul):
        course = run_steps(
            lambda t: step.run(
                problem.train, gather_KD, order_KT[:, t * size : (t + 1) * size], fixed, state
            ),
            spec.training.num_steps,
            state.tensors(),
            chunks,
        )
    kept = kept_by_layer(spec.mask, [weight.shape for weight in fixed.base])
    scores = [layer[:num_real] for layer in state.scores]
    loss_K = mean_loss(tasks[:num_real], course)
    check_scores(tasks[:num_real], scores)
    masks = [mask_of(layer, k) for layer, k in zip(scores, kept, strict=True)]
    more = {"score": scores} if spec.training.transfer == "scores" else {}
    return chunk_result(masks, loss_K, course.seconds, **more)


def eager_step(optimizer: Optimizer, rule: MaskSpec = THRESHOLD) -> StepFunction:
    """Return the reference step, in plain PyTorch.

    It updates ``state`` in place and returns the loss before the update, float32 [K].
    """

    def step(
        pixels: Pixels, gather_KD: Tensor, rows_KB: Tensor, fixed: FixedWeights, state: CohortState
    ) -> Tensor:
        x_KBD = gather_inputs(pixels, gather_KD, rows_KB)
        grads, loss_K = gradients(x_KBD, pixels.labels[rows_KB], state.effective, fixed.gains)
        state.step.add_(1)
        for layer, grad_KOI in enumerate(grads):
            scores, kept = state.scores[layer], num_kept(rule, fixed.base[layer].shape)
            grad = score_gradient(grad_KOI.mul_(fixed.base[layer]), scores, kept)
            optimizer.update(scores, grad, state.buffers[layer], state.step)
            torch.mul(fixed.operand[layer], mask_of(scores, kept), out=state.effective[layer])
        return loss_K

    return step


def _draw(
    spec: RunSpec,
    tasks: Sequence[int],
    views: Sequence[TaskView],
    fixed: FixedWeights,
    earlier: Earlier | None,
) -> tuple[Tensor, list[Tensor]]:
    """Draw each task's order of images, int32 [K, T * B], and initial scores; return both on the device.

    Each task has its own random streams, so the result does not depend on threads.
    """
    device = fixed.base[0].device
    order_KT = np.empty((len(tasks), spec.training.num_steps * spec.training.batch_size), dtype=np.int32)
    scores = [np.empty((len(tasks), *weight.shape), dtype=np.float32) for weight in fixed.base]

    def draw(k: int) -> None:
        order_KT[k] = image_order(spec, tasks[k], views[k], order_KT.shape[1])
        draw_scores(spec.seed, tasks[k], [layer[k] for layer in scores])
        start_from(earlier, [layer[k] for layer in scores], spec.mask)

    num_threads = len(os.sched_getaffinity(0)) if device.type == "cuda" else torch.get_num_threads()
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(draw, range(len(tasks))))
    on_device = [torch.from_numpy(layer).to(device) for layer in scores]
    return torch.from_numpy(order_KT).to(device), on_device


def image_order(spec: RunSpec, task: int, view: TaskView, needed: int) -> NDArray[np.int32]:
    """Return the first ``needed`` images of a task's epochs, each shuffled anew, int32 [needed]."""
    rows = view.train_rows.astype(np.int32)
    draw, order, drawn = stream(spec.seed, "order", task), [], 0
    while drawn < needed:
        order.append(draw.permutation(rows))
        drawn += len(rows)
    return np.concatenate(order)[:needed]


def start_state(
    optimizer: Optimizer,
    scores: list[Tensor],
    fixed: FixedWeights,
    rule: MaskSpec = THRESHOLD,
    *,
    weights: Callable[[Tensor, Tensor], Tensor] = torch.mul,
) -> CohortState:
    """Return the state before the first step. scores: [K, O, I] per layer. weights: see ``Step``."""
    kept = kept_by_layer(rule, [weight.shape for weight in fixed.base])
    masks = [mask_of(s, k) for s, k in zip(scores, kept, strict=True)]
    return CohortState(
        scores=scores,
        effective=[weights(w, mask) for w, mask in zip(fixed.operand, masks, strict=True)],
        buffers=[optimizer.buffers(s) for s in scores],
        step=torch.zeros((), dtype=torch.float64, device=scores[0].device),
    )


def draw_scores(seed: int, task: int, scores: Sequence[NDArray[np.float32]]) -> None:
    """Fill each layer, float32 [O, I], with the task's initial scores."""
    draw = stream(seed, "scores", task)
    for layer in scores:
        _fill_scores(draw, layer)


def _fill_scores(draw: np.random.Generator, out: NDArray[np.float32]) -> None:
    """Fill ``out``, float32 [O, I], from U(-1/sqrt(fan_in), +1/sqrt(fan_in))."""
    draw.random(dtype=np.float32, out=out)
    out *= 2
    out -= 1
    out *= np.float32(1 / np.sqrt(fan_in(out.shape)))
