"""Optimizers of the scores, in place, with the arithmetic of ``torch.optim``.

Written out so that one compiled step can fuse the update with the next effective
weights. A state is a tuple of buffers shaped like the scores.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.specs import OptimizerSpec


@dataclass(frozen=True)
class Optimizer:
    """How a step updates scores and their state, after ``spec``."""

    spec: OptimizerSpec

    def buffers(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Return the state before the first step: zeros shaped like ``scores``."""
        return tuple(torch.zeros_like(scores) for _ in range(self.spec.num_buffers))

    def update(self, scores: Tensor, grad: Tensor, state: tuple[Tensor, ...], step: Tensor) -> None:
        """Update ``scores`` and ``state`` in place; ``grad`` is used up.

        step: float64 scalar, 1 at first.
        """
        if self.spec.weight_decay:
            grad = grad + self.spec.weight_decay * scores
        {"rmsprop": self._rmsprop, "adam": self._adam, "sgd": self._sgd}[self.spec.kind](
            scores, grad, state, step
        )

    def _rmsprop(self, scores: Tensor, grad: Tensor, state: tuple[Tensor, ...], step: Tensor) -> None:
        del step
        smoothing, eps, lr = _given(self.spec.smoothing), _given(self.spec.eps), _given(self.spec.lr)
        square = state[0]
        square.mul_(smoothing).addcmul_(grad, grad, value=1 - smoothing)
        direction = grad.div_(square.sqrt().add_(eps))
        if self.spec.momentum:
            direction = state[1].mul_(self.spec.momentum).add_(direction)
        scores.sub_(direction, alpha=lr)

    def _adam(self, scores: Tensor, grad: Tensor, state: tuple[Tensor, ...], step: Tensor) -> None:
        beta1, beta2 = _given(self.spec.beta1), _given(self.spec.beta2)
        mean, square = state
        mean.mul_(beta1).add_(grad, alpha=1 - beta1)
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        step_size = (_given(self.spec.lr) / (1 - beta1**step)).float()
        correction = (1 - beta2**step).sqrt().float()
        scores.sub_(step_size * (mean / (square.sqrt() / correction + _given(self.spec.eps))))

    def _sgd(self, scores: Tensor, grad: Tensor, state: tuple[Tensor, ...], step: Tensor) -> None:
        del step
        if self.spec.momentum:
            grad = state[0].mul_(self.spec.momentum).add_(grad)
        scores.sub_(grad, alpha=_given(self.spec.lr))


def _given(value: float | None) -> float:
    assert value is not None, "OptimizerSpec fills every key of its kind"
    return value
