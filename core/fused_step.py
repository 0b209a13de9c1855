"""The training step on a CPU: torch's products, and everything between them in single passes.

Tasks go one after another, so that one task's scores and state stay in cache. The gradient of
a layer is read once: score, state and next effective weight are updated in the same pass.
Bit for bit the reference (``training.eager_step``), as the tests show.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import fused_loops
from core.gradients import FixedWeights
from core.inputs import Pixels, pixel_table
from core.optimizers import adam_scales
from core.specs import OptimizerSpec
from core.training import CohortState


@dataclass(frozen=True)
class _Scratch:
    """Memory used again by every step. hidden: each layer's input and output [B, width].

    deltas: dL/d(output) [B, O] a layer. grads: dL/d(effective weight) [O, I] a layer. table:
    what the network sees of each pixel value, [256].
    """

    table: NDArray[np.float32]
    hidden: list[Tensor]
    deltas: list[Tensor]
    grads: list[Tensor]


@dataclass
class FusedStep:
    """A training step (``training.StepFunction``) for float32 on a CPU."""

    optimizer: OptimizerSpec
    _scratch: dict[tuple[int, float, float], _Scratch] = field(default_factory=dict)

    def __call__(
        self, pixels: Pixels, gather_KD: Tensor, rows_KB: Tensor, fixed: FixedWeights, state: CohortState
    ) -> Tensor:
        """Update ``state`` in place; return the loss before the update, float32 [K]."""
        state.step.add_(1)
        scratch = self._scratch_for(rows_KB.shape[1], pixels, fixed)
        losses = []
        for k in range(len(rows_KB)):
            _gather(pixels, gather_KD[k], rows_KB[k], scratch)
            effective = [weight_KOI[k] for weight_KOI in state.effective]
            losses.append(_gradients(effective, pixels.labels[rows_KB[k]], scratch))
            self._update(k, scratch.grads, fixed, state)
        return torch.cat(losses)

    def _update(self, k: int, grads: list[Tensor], fixed: FixedWeights, state: CohortState) -> None:
        """Update scores, buffers and effective weights of task ``k`` of the cohort."""
        spec = self.optimizer
        loop, constants = getattr(fused_loops, spec.kind), _constants(spec, state.step)
        for layer, grad_OI in enumerate(grads):
            buffers = [_flat(buffer_KOI[k]) for buffer_KOI in state.buffers[layer]]
            unused = [np.empty(0, dtype=np.float32)] * (spec.num_slots - len(buffers))
            scores, effective = _flat(state.scores[layer][k]), _flat(state.effective[layer][k])
            loop(_flat(grad_OI), _flat(fixed.base[layer]), scores, effective, *buffers, *unused, constants)

    def _scratch_for(self, batch_size: int, pixels: Pixels, fixed: FixedWeights) -> _Scratch:
        key = (batch_size, pixels.gain, pixels.offset)
        if key not in self._scratch:
            widths = [fixed.base[0].shape[1], *(weight.shape[0] for weight in fixed.base)]
            self._scratch[key] = _Scratch(
                table=pixel_table(pixels).numpy(),
                hidden=[torch.empty(batch_size, width) for width in widths],
                deltas=[torch.empty(batch_size, width) for width in widths[1:]],
                grads=[torch.empty_like(weight) for weight in fixed.base],
            )
        return self._scratch[key]


def _gather(pixels: Pixels, gather_D: Tensor, rows_B: Tensor, scratch: _Scratch) -> None:
    """Write the batch as the task sees it to the input of the first layer."""
    fused_loops.gather(
        pixels.images.numpy(), rows_B.numpy(), gather_D.numpy(), scratch.table, scratch.hidden[0].numpy()
    )


def _gradients(effective: list[Tensor], labels_B: Tensor, scratch: _Scratch) -> Tensor:
    """Run the batch in ``scratch`` forward and backward, fill its ``grads``; return the loss [1]."""
    log_p = torch.log_softmax(_forward(effective, scratch), dim=1)
    torch.exp(log_p, out=scratch.deltas[-1])
    fused_loops.logit_deltas(scratch.deltas[-1].numpy(), labels_B.numpy())
    for layer in range(len(effective) - 1, -1, -1):
        delta, hidden = scratch.deltas[layer], scratch.hidden[layer]
        torch.mm(delta.T, hidden, out=scratch.grads[layer])
        if layer > 0:
            below = scratch.deltas[layer - 1]
            torch.mm(delta, effective[layer], out=below)
            fused_loops.relu_backward(_flat(below), _flat(hidden))
    return -log_p.gather(1, labels_B.unsqueeze(1)).view(1, -1).mean(dim=1)


def _forward(effective: list[Tensor], scratch: _Scratch) -> Tensor:
    """Fill ``scratch.hidden`` and return its last, the logits [B, O]."""
    for layer, weight_OI in enumerate(effective):
        torch.mm(scratch.hidden[layer], weight_OI.T, out=scratch.hidden[layer + 1])
        if layer < len(effective) - 1:
            scratch.hidden[layer + 1].relu_()
    return scratch.hidden[-1]


def _constants(spec: OptimizerSpec, step: Tensor) -> tuple[np.float32, ...]:
    """Return what the loop of ``spec.kind`` unpacks, in its order."""
    values: dict[str, list[Any]] = {
        "rmsprop": [spec.lr, spec.smoothing, 1 - (spec.smoothing or 0), spec.eps, spec.momentum],
        "sgd": [spec.lr, spec.momentum],
    }
    if spec.kind == "adam":
        beta1, beta2 = spec.beta1 or 0, spec.beta2 or 0
        scales = [float(scale) for scale in adam_scales(spec, step)]
        values["adam"] = [*scales, beta1, 1 - beta1, beta2, 1 - beta2, spec.eps]
    return tuple(np.float32(value) for value in (spec.weight_decay, *values[spec.kind]))


def _flat(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.numpy().reshape(-1)
