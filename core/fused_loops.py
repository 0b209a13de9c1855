"""The loops of ``fused_step``, compiled by numba; flat arrays, float32 where nothing else is said.

No fast-math: each operation is rounded as the reference rounds it, so the bits are the same.
"""

from typing import Any

import numba
import numpy as np

_compile = numba.njit(error_model="numpy", nogil=True, cache=True)


@_compile
def gather(images: Any, rows: Any, index: Any, table: Any, out: Any) -> None:
    """Write inputs to ``out`` [B, D]: ``table`` [256] of pixel ``index`` [D] of image rows [B].

    images: uint8 [N, D]. An index of D is a blank pixel.
    """
    num_pixels = len(index)
    for b in range(len(rows)):
        image = images[rows[b]]
        for d in range(num_pixels):
            out[b, d] = table[image[index[d]]] if index[d] < num_pixels else table[0]


@_compile
def logit_deltas(probabilities: Any, labels: Any) -> None:
    """Turn probabilities [B, O] into dL/dlogit: minus 1 at the label, over B."""
    num_images = np.float32(len(labels))
    for b in range(len(labels)):
        row = probabilities[b]
        row[labels[b]] -= np.float32(1)
        for o in range(len(row)):
            row[o] = row[o] / num_images


@_compile
def relu_backward(delta: Any, hidden: Any) -> None:
    """Set ``delta`` to 0 where ``hidden`` is not positive."""
    for i in range(delta.size):
        delta[i] = delta[i] if hidden[i] > 0 else np.float32(0)


@_compile
def rmsprop(
    grad: Any, base: Any, scores: Any, effective: Any, square: Any, velocity: Any, constants: Any
) -> None:
    """Update scores, state and effective weights. velocity: empty without momentum."""
    weight_decay, lr, smoothing, rest, eps, momentum = constants
    for i in range(grad.size):
        g = grad[i] * base[i]
        if weight_decay != 0:
            g = g + weight_decay * scores[i]
        square[i] = square[i] * smoothing + g * g * rest
        step = g / (np.sqrt(square[i]) + eps)
        if momentum != 0:
            velocity[i] = velocity[i] * momentum + step
            step = velocity[i]
        scores[i] = scores[i] - step * lr
        effective[i] = base[i] if scores[i] >= 0 else np.float32(0)


@_compile
def adam(grad: Any, base: Any, scores: Any, effective: Any, mean: Any, square: Any, constants: Any) -> None:
    """Update scores, state and effective weights."""
    weight_decay, step_size, correction, beta1, rest1, beta2, rest2, eps = constants
    for i in range(grad.size):
        g = grad[i] * base[i]
        if weight_decay != 0:
            g = g + weight_decay * scores[i]
        mean[i] = mean[i] * beta1 + g * rest1
        square[i] = square[i] * beta2 + g * g * rest2
        scores[i] = scores[i] - mean[i] / (np.sqrt(square[i]) / correction + eps) * step_size
        effective[i] = base[i] if scores[i] >= 0 else np.float32(0)


@_compile
def sgd(grad: Any, base: Any, scores: Any, effective: Any, velocity: Any, constants: Any) -> None:
    """Update scores, state and effective weights. velocity: empty without momentum."""
    weight_decay, lr, momentum = constants
    for i in range(grad.size):
        g = grad[i] * base[i]
        if weight_decay != 0:
            g = g + weight_decay * scores[i]
        if momentum != 0:
            velocity[i] = velocity[i] * momentum + g
            g = velocity[i]
        scores[i] = scores[i] - g * lr
        effective[i] = base[i] if scores[i] >= 0 else np.float32(0)
