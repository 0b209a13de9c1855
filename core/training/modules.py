"""Cohort training of masks over any module: forward by ``torch.func``, backward by autograd.

The straight-through rule passes the gradient of an effective weight, times the base weight, to the
score (paper, section 2). A GPU trains a cohort at once (``vmap`` turns convolutions of K tasks into
one grouped convolution); a CPU trains one task after another, which is faster there and makes the
bits of a mask independent of its cohort.

Letters: K tasks, B images of a batch, S running statistics, T steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.batches.images import train_batches
from core.batches.problem import Problem
from core.data.benchmarks import TaskView
from core.networks.module import ModuleNetwork
from core.specs.training import ScheduleSpec, TrainingSpec
from core.training.chunks import CohortResult, chunk_result, in_chunks
from core.training.cohort import draw_scores, image_order
from core.training.loop import Arrays, Checkpointer, Chunks, NoCheckpoints, check_scores, mean_loss, run_steps
from core.training.optimizers import Optimizer
from core.training.precision import gpu_products
from core.training.selection import kept_by_layer, mask_of, score_gradient
from core.training.transfer import Earlier, start_from


@dataclass(frozen=True)
class ModuleState:
    """The state that a step updates: scores and buffers [K, ...] per layer, statistics [K, S], steps done.

    whole: scores and buffers of all layers, one after the other in memory, if those of a layer are views of
    them: the optimizer then takes one call for all layers (on a GPU, where a call costs more than its work).
    """

    scores: list[Tensor]
    buffers: list[tuple[Tensor, ...]]
    statistics: Tensor
    step: Tensor
    whole: tuple[Tensor, tuple[Tensor, ...]] | None = None

    def update(self, optimizer: Optimizer, grads: Sequence[Tensor], lr_share: float) -> None:
        """Update scores and buffers; the bits do not depend on ``whole``."""
        if self.whole is not None:
            scores, buffers = self.whole
            joined = torch.cat([grad.flatten() for grad in grads])
            optimizer.update(scores, joined, buffers, self.step, lr_share)
            return
        for scores, grad, buffers in zip(self.scores, grads, self.buffers, strict=True):
            optimizer.update(scores, grad, buffers, self.step, lr_share)

    def tensors(self) -> dict[str, list[Tensor]]:
        """Return the content of a checkpoint."""
        buffers = [buffer for layer in self.buffers for buffer in layer]
        return {
            "score": self.scores,
            "buffer": buffers,
            "statistics": [self.statistics],
            "step": [self.step],
        }


def train_modules(
    problem: Problem,
    tasks: Sequence[int],
    *,
    checkpointer: Checkpointer | None = None,
    earlier: Earlier | None = None,
    tasks_at_once: int | None = None,
) -> CohortResult:
    """Train the masks of ``tasks`` and return them with their running statistics.

    See ``core.training.cohort.train_cohort``. On a GPU tasks train together if they have equally many steps.
    """

    def train_chunk(chunk: Sequence[int], num_real: int, chunks: Chunks) -> Arrays:
        assert num_real == len(chunk), "no shape is compiled here, so that chunks are not filled up"
        return _train_together(problem, chunk, chunks, earlier)

    size = (tasks_at_once or len(tasks)) if _trains_together(problem, tasks) else 1
    return in_chunks(tasks, size, train_chunk, checkpointer or NoCheckpoints())


def _trains_together(problem: Problem, tasks: Sequence[int]) -> bool:
    lengths = {num_steps(problem.spec.training, problem.view(task)) for task in tasks}
    return problem.device.type == "cuda" and len(lengths) == 1


def mask_gradients(
    network: ModuleNetwork,
    x_KBCHW: Tensor,
    labels_KB: Tensor,
    base: Sequence[Tensor],
    masks: Sequence[Tensor],
    *,
    statistics_KS: Tensor,
    training: bool = True,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return dL/dmask [K, ...] per layer, the loss [K] and the logits [K, B, O].

    L is the mean cross-entropy (nats) of a task's batch. With ``training``, batch normalisation uses the
    batch's statistics and updates ``statistics_KS`` in place.
    """
    weights = [(w * mask).requires_grad_() for w, mask in zip(base, masks, strict=True)]
    logits_KBO = network.cohort_logits(x_KBCHW, weights, statistics_KS, training=training)
    flat = torch.nn.functional.cross_entropy(logits_KBO.flatten(0, 1), labels_KB.flatten(), reduction="none")
    loss_K = flat.view(labels_KB.shape).mean(dim=1)
    grads = torch.autograd.grad(loss_K.sum(), weights)
    scored = [grad * weight for grad, weight in zip(grads, base, strict=True)]
    return scored, loss_K.detach(), logits_KBO.detach()


def num_steps(training: TrainingSpec, view: TaskView) -> int:
    """Return the number of steps of a task; batches are full, and may span two epochs."""
    if training.epochs is None:
        return training.num_steps
    return max(1, round(training.epochs * len(view.train_rows) / training.batch_size))


def lr_shares(training: TrainingSpec, view: TaskView) -> list[float]:
    """Return the factor on the learning rate at each step, constant within an epoch."""
    num = num_steps(training, view)
    if training.schedule is None:
        return [1.0] * num
    length = training.epochs if training.epochs is not None else num
    epoch_of = [min(length - 1, t * length // num) for t in range(num)]
    by_epoch = [_share(training.schedule, epoch, length) for epoch in range(length)]
    return [by_epoch[epoch] for epoch in epoch_of]


def _share(schedule: ScheduleSpec, epoch: int, num_epochs: int) -> float:
    if epoch < schedule.warmup:
        return (epoch + 1) / schedule.warmup
    done = (epoch - schedule.warmup) / max(1, num_epochs - schedule.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def _train_together(
    problem: Problem, tasks: Sequence[int], chunks: Chunks, earlier: Earlier | None
) -> Arrays:
    spec, views, base = problem.spec, problem.views(tasks), problem.base
    training, kept = spec.training, kept_by_layer(spec.mask, [tuple(w.shape) for w in base])
    shares = lr_shares(training, views[0])
    needed = len(shares) * training.batch_size
    orders = np.stack([image_order(spec, t, v, needed) for t, v in zip(tasks, views, strict=True)])
    batches = train_batches(problem, tasks, orders)
    state = _start(problem, tasks, earlier)
    optimizer = Optimizer(training.optimizer)

    def step(t: int) -> Tensor:
        x_KBCHW, labels_KB = batches(t)
        masks = [mask_of(scores, k) for scores, k in zip(state.scores, kept, strict=True)]
        grads, loss_K, _ = mask_gradients(
            problem.module, x_KBCHW, labels_KB, base, masks, statistics_KS=state.statistics
        )
        state.step.add_(1)
        by_score = [score_gradient(*one) for one in zip(grads, state.scores, kept, strict=True)]
        state.update(optimizer, by_score, shares[t])
        return loss_K

    with gpu_products(training.matmul):
        course = run_steps(step, len(shares), state.tensors(), chunks)
    loss_K = mean_loss(tasks, course)
    check_scores(tasks, state.scores)
    masks = [mask_of(scores, k) for scores, k in zip(state.scores, kept, strict=True)]
    more = {"score": state.scores} if training.transfer == "scores" else {}
    return chunk_result(masks, loss_K, course.seconds, statistics=[state.statistics], **more)


def _start(problem: Problem, tasks: Sequence[int], earlier: Earlier | None) -> ModuleState:
    spec, device = problem.spec, problem.device
    optimizer = Optimizer(spec.training.optimizer)
    drawn = [np.empty((len(tasks), *weight.shape), dtype=np.float32) for weight in problem.base]
    for k, task in enumerate(tasks):
        own = [layer[k] for layer in drawn]
        draw_scores(spec.seed, task, own)
        start_from(earlier, own, spec.mask)
    return start_state(
        optimizer,
        [torch.from_numpy(layer).to(device) for layer in drawn],
        problem.module.start_statistics(device).repeat(len(tasks), 1),
        is_whole=device.type == "cuda",
    )


def start_state(
    optimizer: Optimizer, scores: list[Tensor], statistics_KS: Tensor, *, is_whole: bool
) -> ModuleState:
    """Return the state before the first step. is_whole: whether to put all layers into one tensor."""
    step = torch.zeros((), dtype=torch.float64, device=statistics_KS.device)
    if not is_whole:
        return ModuleState(scores, [optimizer.buffers(layer) for layer in scores], statistics_KS, step)
    flat = torch.cat([layer.flatten() for layer in scores])
    buffers = optimizer.buffers(flat)
    by_slot = [_views(slot, scores) for slot in buffers]
    layers = [tuple(slot[i] for slot in by_slot) for i in range(len(scores))]
    return ModuleState(_views(flat, scores), layers, statistics_KS, step, (flat, buffers))


def _views(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return the parts of ``flat`` as tensors of the shapes of ``like``."""
    parts = torch.split(flat, [layer.numel() for layer in like])
    return [part.view(layer.shape) for part, layer in zip(parts, like, strict=True)]
