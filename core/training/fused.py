"""The training step on a CPU: four calls, with a single pass for everything between the products.

Tasks are trained one after another, so that a task's scores and state stay in cache. A gradient is
read once: score, state and next effective weight are updated in the same pass. Masks are bit for bit
those of the reference (``core.training.cohort.eager_step``) trained one task at a time, as tests show.

Little is left to the interpreter: megabytes of weights push its own data out of the cache, and each
call from Python then costs as much as a small product.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels, pixel_table
from core.networks.perceptron import SMALLEST, FixedWeights
from core.specs.training import OptimizerSpec
from core.training import fused_loops
from core.training.cohort import CohortState
from core.training.optimizers import adam_scales

Array = NDArray[Any]
Arrays = tuple[Array, ...]  # one per layer


@dataclass(frozen=True)
class _Scratch:
    """Memory that every step reuses.

    hidden: each layer's input and output [B, width]. deltas: dL/d(output) [B, O] per layer. grads:
    dL/d(effective weight) [O, I] per layer. logits, probabilities: the last of hidden and of deltas, as
    tensors. images: uint8 [N, D]. labels: [N]. table: float32 [256], the input for each pixel value.
    """

    hidden: Arrays
    deltas: Arrays
    grads: Arrays
    logits: Tensor
    probabilities: Tensor
    images: Array
    labels: Array
    table: Array


@dataclass(frozen=True)
class _Task:
    """One task's arrays. updated: the arguments of the optimizer's loop, each a tuple of flat layers."""

    gather: Array
    effective: Arrays
    updated: tuple[Arrays, ...]


@dataclass
class FusedStep:
    """A training step (``core.training.cohort.StepFunction``) for float32 on a CPU.

    The views of a cohort's arrays are created at its first step and kept until the next cohort, or
    until its inputs are gathered differently.
    """

    optimizer: OptimizerSpec
    _state: CohortState | None = None
    _gather: Tensor | None = None
    _tasks: list[_Task] = field(default_factory=list)
    _scratch: _Scratch | None = None
    _constants: tuple[np.float32, ...] = ()

    def __call__(
        self, pixels: Pixels, gather_KD: Tensor, rows_KB: Tensor, fixed: FixedWeights, state: CohortState
    ) -> Tensor:
        """Update ``state`` in place; return the loss before the update, float32 [K]."""
        if state is not self._state or gather_KD is not self._gather or self._scratch is None:
            self._scratch = _make_scratch(rows_KB.shape[1], pixels, fixed)
            bind = partial(_bind, self.optimizer, self._scratch, fixed, state)
            self._tasks = [bind(k, gather_KD[k]) for k in range(len(rows_KB))]
            self._state, self._gather = state, gather_KD
        state.step.add_(1)
        if self.optimizer.kind == "adam" or not self._constants:
            self._constants = _constants(self.optimizer, state.step)
        update, losses = getattr(fused_loops, self.optimizer.kind), np.empty(len(rows_KB), dtype=np.float32)
        for k, rows in enumerate(rows_KB.numpy()):
            losses[k] = _gradients(self._tasks[k], rows, self._scratch)
            update(*self._tasks[k].updated, self._constants)
        return torch.from_numpy(losses)


def _make_scratch(batch_size: int, pixels: Pixels, fixed: FixedWeights) -> _Scratch:
    widths = [fixed.base[0].shape[1], *(weight.shape[0] for weight in fixed.base)]
    hidden = [torch.empty(batch_size, width) for width in widths]
    deltas = [torch.empty(batch_size, width) for width in widths[1:]]
    return _Scratch(
        hidden=_arrays(hidden),
        deltas=_arrays(deltas),
        grads=_arrays([torch.empty_like(weight) for weight in fixed.base]),
        logits=hidden[-1],
        probabilities=deltas[-1],
        images=pixels.images.numpy(),
        labels=pixels.labels.numpy(),
        table=pixel_table(pixels).numpy(),
    )


def _bind(  # noqa: PLR0917  # bound one part after the other
    optimizer: OptimizerSpec,
    scratch: _Scratch,
    fixed: FixedWeights,
    state: CohortState,
    k: int,
    gather_D: Tensor,
) -> _Task:
    """Collect the arrays of task ``k`` of the cohort."""
    effective = _arrays([weight_KOI[k] for weight_KOI in state.effective])
    scores = _arrays([scores_KOI[k] for scores_KOI in state.scores])
    buffers = [_arrays([layer[slot][k] for layer in state.buffers]) for slot in range(optimizer.num_buffers)]
    unused = [_arrays([torch.empty(0)] * len(effective))] * (optimizer.num_slots - len(buffers))
    updated = [scratch.grads, _arrays(fixed.base), scores, effective, *buffers, *unused]
    return _Task(gather_D.numpy(), effective, tuple(tuple(a.reshape(-1) for a in part) for part in updated))


def _gradients(task: _Task, rows: Array, scratch: _Scratch) -> float:
    """Run the images ``rows`` [B] forward and backward to fill ``scratch.grads``; return the loss."""
    hidden, effective = scratch.hidden, task.effective
    fused_loops.forward(scratch.images, rows, task.gather, scratch.table, hidden, effective)
    torch.softmax(scratch.logits, dim=1, out=scratch.probabilities)
    smallest = np.float32(SMALLEST)
    loss: float = fused_loops.backward(
        scratch.labels, rows, smallest, hidden, effective, scratch.deltas, scratch.grads
    )
    return loss


def _constants(spec: OptimizerSpec, step: Tensor) -> tuple[np.float32, ...]:
    """Return the constants that the loop of ``spec.kind`` unpacks, in order."""
    values: dict[str, list[Any]] = {
        "rmsprop": [spec.lr, spec.smoothing, 1 - (spec.smoothing or 0), spec.eps, spec.momentum],
        "sgd": [spec.lr, spec.momentum],
    }
    if spec.kind == "adam":
        beta1, beta2 = spec.beta1 or 0, spec.beta2 or 0
        scales = [float(scale) for scale in adam_scales(spec, step)]
        values["adam"] = [*scales, beta1, 1 - beta1, beta2, 1 - beta2, spec.eps]
    return tuple(np.float32(value) for value in (spec.weight_decay, *values[spec.kind]))


def _arrays(tensors: Any) -> Arrays:
    return tuple(tensor.numpy() for tensor in tensors)
