"""PSP, parameter superposition: shared weights, with each layer's input rotated by task.

A layer computes W(R x) = (W R) x, with a fixed random rotation R (Haar) per task and layer: of the
inputs of a linear layer, or the input channels of a convolution. W and the last layer are trained on
all tasks, which interfere less than without the rotations. The task is given.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from core.baselines.method import Plain, Values
from core.seeding import stream


class ParameterSuperposition(Plain):
    """Values: ``w0``, ``w1``, ...; rotations follow from the seed."""

    def begin(self, values: Values, task: int) -> None:
        """See ``Method``."""
        if task == 0:
            shared = self.new_weights(range(self.num_layers))
            values.update({f"w{layer}": weight for layer, weight in enumerate(shared)})

    def trained(self, task: int) -> list[str]:
        """Return all weights."""
        del task
        return [f"w{layer}" for layer in range(self.num_layers)]

    def weights(self, values: Values, task: int, course: int | None = None) -> list[Tensor]:
        """See ``Method``."""
        del course
        return [
            torch.einsum("oi...,ij->oj...", values[f"w{layer}"], self._rotation(task, layer))
            for layer in range(self.num_layers)
        ]

    def _rotation(self, task: int, layer: int) -> Tensor:
        size = self.problem.module.shapes[layer][1]
        return haar_rotation(self.problem.spec.seed, task, layer, size).to(self.problem.device)


@lru_cache(maxsize=64)
def haar_rotation(seed: int, task: int, layer: int, size: int) -> Tensor:
    """Return a uniformly random orthogonal matrix, float32 [size, size]."""
    normal = stream(seed, "baseline", task, layer, 2).standard_normal((size, size))
    q, r = np.linalg.qr(normal)
    return torch.from_numpy((q * np.sign(np.diag(r))).astype(np.float32))
