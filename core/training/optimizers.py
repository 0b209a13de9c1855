"""Optimizers of the scores, in place: the readable reference.

The formulas are those of ``torch.optim``, written as single multiplications, additions, divisions
and square roots, each rounded once, so that ``fused_loops`` gives the same bits on any CPU. A
state is a tuple of buffers shaped like the scores.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.specs.training import OptimizerSpec


@dataclass(frozen=True)
class Optimizer:
    """Updates scores and their state as ``spec`` sets out."""

    spec: OptimizerSpec

    def buffers(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Return the state before the first step: zeros shaped like ``scores``, dtype ``spec.state``."""
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.spec.state]
        return tuple(torch.zeros_like(scores, dtype=dtype) for _ in range(self.spec.num_buffers))

    def update(  # in the order of use, as everywhere here
        self,
        scores: Tensor,
        grad: Tensor,
        state: tuple[Tensor, ...],
        step: Tensor,
        lr_share: float = 1.0,
    ) -> None:
        """Update ``scores`` and ``state`` in place; ``grad`` is overwritten.

        step: float64 scalar, 1 in the first step. lr_share: factor of the learning rate in this step. A
        bfloat16 state is widened, used, and rounded only when it is written back.
        """
        if self.spec.weight_decay:
            grad = grad + self.spec.weight_decay * scores
        wide = tuple(buffer.float() for buffer in state)  # the buffer itself where it is float32
        {"rmsprop": self._rmsprop, "adam": self._adam, "sgd": self._sgd}[self.spec.kind](
            scores, grad, wide, step, lr_share
        )
        if self.spec.state != "float32":
            for buffer, value in zip(state, wide, strict=True):
                buffer.copy_(value)

    def _rmsprop(
        self, scores: Tensor, grad: Tensor, state: tuple[Tensor, ...], step: Tensor, lr_share: float
    ) -> None:
        del step
        smoothing, eps, lr = _given(self.spec.smoothing), _given(self.spec.eps), _given(self.spec.lr)
        square = state[0]
        square.mul_(smoothing).add_((grad * grad).mul_(1 - smoothing))
        direction = grad.div_(_sqrt(square).add_(eps))
        if self.spec.momentum:
            direction = state[1].mul_(self.spec.momentum).add_(direction)
        scores.sub_(direction * (lr * lr_share))

    def _adam(
        self, scores: Tensor, grad: Tensor, state: tuple[Tensor, ...], step: Tensor, lr_share: float
    ) -> None:
        beta1, beta2 = _given(self.spec.beta1), _given(self.spec.beta2)
        mean, square = state
        mean.mul_(beta1).add_(grad * (1 - beta1))
        square.mul_(beta2).add_((grad * grad).mul_(1 - beta2))
        step_size, correction = adam_scales(self.spec, step)
        scores.sub_(mean / (_sqrt(square) / correction).add_(_given(self.spec.eps)) * (step_size * lr_share))

    def _sgd(
        self, scores: Tensor, grad: Tensor, state: tuple[Tensor, ...], step: Tensor, lr_share: float
    ) -> None:
        del step
        if self.spec.momentum:
            grad = state[0].mul_(self.spec.momentum).add_(grad)
        scores.sub_(grad * (_given(self.spec.lr) * lr_share))


def adam_scales(spec: OptimizerSpec, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return Adam's step size and the divisor of the root of its squares, float32 scalars."""
    step_size = _given(spec.lr) / (1 - _given(spec.beta1) ** step)
    return step_size.float(), (1 - _given(spec.beta2) ** step).sqrt().float()


def _sqrt(values: Tensor) -> Tensor:
    """Return the square root, correctly rounded; on a CPU, torch's own may be off in the last bit."""
    if values.is_cuda or torch.compiler.is_compiling():
        return values.sqrt()
    return values.double().sqrt_().float()


def _given(value: float | None) -> float:
    assert value is not None, "OptimizerSpec fills every key of its kind"
    return value
