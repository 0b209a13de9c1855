"""Base networks: weights drawn once from (spec, seed) and never trained.

Signed Kaiming constant (paper, section 2): each weight is +c or -c with equal
probability, c = sqrt(2 / fan_in) per layer. No biases.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.seeding import stream
from core.specs import NetworkSpec


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Name and shape of a layer: (out, in) of its weights, or (out,) of a mask on its outputs."""

    name: str
    shape: tuple[int, ...]

    @property
    def num_weights(self) -> int:
        """Weights in the layer, or outputs; each that is masked has one bit a task."""
        return math.prod(self.shape)


def layers(spec: NetworkSpec, num_inputs: int) -> tuple[Layer, ...]:
    """Return the layers in order, first layer first; ``fc1.weight`` has shape (w1, num_inputs)."""
    widths = spec.widths(num_inputs)
    return tuple(
        Layer(name=f"fc{i + 1}.weight", shape=(widths[i + 1], widths[i])) for i in range(len(widths) - 1)
    )


def mask_layers(spec: NetworkSpec, num_inputs: int) -> tuple[Layer, ...]:
    """Return what a mask covers: the weights, or the outputs of every layer but the last."""
    weight_layers = layers(spec, num_inputs)
    if not spec.masks_outputs:
        return weight_layers
    return tuple(
        Layer(name=layer.name.replace(".weight", ".output"), shape=layer.shape[:1])
        for layer in weight_layers[:-1]
    )


def base_weights(spec: NetworkSpec, num_inputs: int, *, seed: int) -> tuple[NDArray[np.float32], ...]:
    """Draw the fixed weights, float32 [out, in] a layer.

    The draw depends on the seed and the shapes alone: neither on the number of tasks
    nor, for the layers before the last, on the number of outputs.
    """
    signs = stream(seed, "weights")
    weights = []
    for layer in layers(spec, num_inputs):
        constant = np.float32(math.sqrt(2.0 / layer.shape[1]))
        positive = signs.integers(0, 2, size=layer.shape, dtype=np.uint8).astype(bool)
        weights.append(np.where(positive, constant, -constant))
    return tuple(weights)


def network_digest(weights: Sequence[NDArray[np.float32]]) -> str:
    """Return the sha256 (hex) of the float32 little-endian weights, in layer order."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(np.ascontiguousarray(weight, dtype="<f4").tobytes())
    return digest.hexdigest()
