"""Base networks: weights drawn once from (spec, seed) and never trained.

Signed Kaiming constant (paper, section 2): each weight is +c or -c with equal
probability, c = sqrt(2 / fan_in) per layer. No biases.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from core.networks.size import check_memory
from core.own_code.files import code_digest
from core.seeding import stream
from core.specs.network import NetworkSpec

Inputs = int | tuple[int, int, int]  # values of a flat image, or its channels, height and width


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Name and shape of a layer: (out, in, ...) of its weights, or (out,) of a mask on its outputs."""

    name: str
    shape: tuple[int, ...]

    @property
    def num_weights(self) -> int:
        """Number of weights, or of outputs; each that is masked has one bit per task."""
        return math.prod(self.shape)


def layers(spec: NetworkSpec, inputs: Inputs) -> tuple[Layer, ...]:
    """Return the layers in order, first layer first; ``fc1.weight`` has shape (w1, inputs).

    Raises ConfigError if the user's own network cannot be built, or a network is larger than this machine.
    """
    if spec.traits.family == "module":
        return _read_module(spec, inputs, _code(spec))[0]
    widths = spec.widths(inputs if isinstance(inputs, int) else math.prod(inputs))
    found = tuple(
        Layer(name=f"fc{i + 1}.weight", shape=(widths[i + 1], widths[i])) for i in range(len(widths) - 1)
    )
    check_memory(sum(layer.num_weights for layer in found))
    return found


def mask_layers(spec: NetworkSpec, inputs: Inputs) -> tuple[Layer, ...]:
    """Return what a mask covers: the weights, or the outputs of every layer but the last."""
    weight_layers = layers(spec, inputs)
    if spec.traits.family != "outputs":
        return weight_layers
    return tuple(
        Layer(name=layer.name.replace(".weight", ".output"), shape=layer.shape[:1])
        for layer in weight_layers[:-1]
    )


def base_weights(spec: NetworkSpec, inputs: Inputs, *, seed: int) -> tuple[NDArray[np.float32], ...]:
    """Draw the fixed weights, float32 [out, in, ...] per layer.

    The draw depends only on the seed and the shapes: neither on the number of tasks
    nor, for the layers before the last, on the number of outputs.
    """
    return draw_weights([layer.shape for layer in layers(spec, inputs)], seed=seed)


def draw_weights(shapes: Sequence[tuple[int, ...]], *, seed: int) -> tuple[NDArray[np.float32], ...]:
    """Draw signed constants of these shapes, float32, one after another."""
    signs = stream(seed, "weights")
    weights = []
    for shape in shapes:
        constant = np.float32(math.sqrt(2.0 / fan_in(shape)))
        positive = signs.integers(0, 2, size=shape, dtype=np.uint8).astype(bool)
        weights.append(np.where(positive, constant, -constant))
    return tuple(weights)


def fan_in(shape: Sequence[int]) -> int:
    """Return how many inputs an output sums, given weights of shape (out, in, ...)."""
    return math.prod(shape[1:])


def network_digest(weights: Sequence[NDArray[np.float32]]) -> str:
    """Return the sha256 (hex) of the float32 little-endian weights, in layer order."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(np.ascontiguousarray(weight, dtype="<f4").tobytes())
    return digest.hexdigest()


def norm_layers(spec: NetworkSpec, inputs: Inputs) -> tuple[tuple[str, int], ...] | None:
    """Return (name, channels) of each batch normalisation with running statistics, in order.

    None for networks that keep no statistics.
    """
    return _read_module(spec, inputs, _code(spec))[1] if spec.traits.family == "module" else None


def _code(spec: NetworkSpec) -> str | None:
    """Return the digest of the user's own network, None for a built-in one."""
    return None if spec.own_code is None else code_digest(spec.own_code)


@lru_cache(maxsize=4)
def _read_module(
    spec: NetworkSpec,
    inputs: Inputs,
    code: str | None,  # noqa: ARG001  # a key of the cache: an edited network is read again
) -> tuple[tuple[Layer, ...], tuple[tuple[str, int], ...]]:
    """Return the layers and the normalisations of a module."""
    from core.networks.module import make_network  # imports torch: only where there is a module

    assert not isinstance(inputs, int), "a module takes images"
    network = make_network(spec, inputs)
    named = zip(network.masked, network.shapes, strict=True)
    return tuple(Layer(name=name, shape=shape) for name, shape in named), network.norms
