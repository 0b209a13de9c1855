"""The loops of ``fused``, compiled by numba; float32 unless stated otherwise.

No fast-math: each operation is rounded as in the reference. The products call the ``sgemm_`` that
torch itself calls, so they have the bits of ``torch.mm``. Layers come as tuples of arrays: hidden
[B, width], the inputs and outputs; deltas [B, O]; weights [O, I].
"""

import ctypes
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch

from core.masks.compiled import compiler

_compile = compiler(error_model="numpy", nogil=True)
_PLAIN, _TRANSPOSED = ord("N"), ord("T")


def _link_sgemm() -> Any:
    """Return torch's matrix product under a name of its own, so that compiled code can be cached."""
    try:
        address = ctypes.cast(ctypes.CDLL(torch._C.__file__).sgemm_, ctypes.c_void_p).value  # noqa: SLF001
    except (AttributeError, OSError) as error:
        raise ImportError(f"this build of torch does not export sgemm_ ({error})") from error
    llvmlite.binding.add_symbol("supsup_sgemm", address)
    return numba.types.ExternalFunction("supsup_sgemm", numba.types.void(*[numba.types.voidptr] * 13))


_sgemm = _link_sgemm()


@_compile
def _product(left: Any, right: Any, out: Any, modes: tuple[int, int], sizes: Any, factors: Any) -> None:
    """Write op(right) @ op(left) to ``out`` as Fortran sees them, which is transposed.

    modes: op of left and right. sizes: int32 [8], scratch, as Fortran takes everything by address.
    factors: 1 and 0, for the product and for the old content of ``out``.
    """
    sizes[0], sizes[1] = modes
    sizes[2], sizes[3] = out.shape[1], out.shape[0]
    sizes[4] = left.shape[0] if modes[0] == _PLAIN else left.shape[1]
    sizes[5], sizes[6], sizes[7] = left.shape[1], right.shape[1], out.shape[1]
    _sgemm(
        sizes[0:].ctypes,
        sizes[1:].ctypes,
        sizes[2:].ctypes,
        sizes[3:].ctypes,
        sizes[4:].ctypes,
        factors[0:].ctypes,
        left.ctypes,
        sizes[5:].ctypes,
        right.ctypes,
        sizes[6:].ctypes,
        factors[1:].ctypes,
        out.ctypes,
        sizes[7:].ctypes,
    )


@_compile
def forward(images: Any, rows: Any, index: Any, table: Any, hidden: Any, effective: Any) -> None:
    """Gather a batch and run it through the network, filling ``hidden``, the last of which are the logits.

    images: uint8 [N, D]. rows: [B], indices of images. index: [D], pixel of each input; D is a blank one.
    table: float32 [256], the input for each pixel value.
    """
    sizes, factors = np.empty(8, dtype=np.int32), np.array([1, 0], dtype=np.float32)
    num_pixels = len(index)
    for b in range(len(rows)):
        image = images[rows[b]]
        for d in range(num_pixels):
            hidden[0][b, d] = table[image[index[d]]] if index[d] < num_pixels else table[0]
    for layer in range(len(effective)):
        out = hidden[layer + 1]
        _product(effective[layer], hidden[layer], out, (_TRANSPOSED, _PLAIN), sizes, factors)
        if layer < len(effective) - 1:
            flat = out.ravel()
            for i in range(flat.size):
                flat[i] = max(flat[i], np.float32(0))


@_compile
def backward(
    labels: Any, rows: Any, smallest: Any, hidden: Any, effective: Any, deltas: Any, grads: Any
) -> Any:
    """Fill ``grads``, [O, I] per layer, and return the loss; the last of ``deltas`` holds probabilities.

    labels: of all images [N]. smallest: lower bound of a probability before its logarithm is taken.
    """
    sizes, factors = np.empty(8, dtype=np.int32), np.array([1, 0], dtype=np.float32)
    loss = _logit_deltas(deltas[len(deltas) - 1], labels, rows, smallest)
    for layer in range(len(effective) - 1, -1, -1):
        delta = deltas[layer]
        _product(hidden[layer], delta, grads[layer], (_PLAIN, _TRANSPOSED), sizes, factors)
        if layer > 0:
            below = deltas[layer - 1]
            _product(effective[layer], delta, below, (_PLAIN, _PLAIN), sizes, factors)
            flat, active = below.ravel(), hidden[layer].ravel()
            for i in range(flat.size):
                flat[i] = flat[i] if active[i] > 0 else np.float32(0)
    return loss


@_compile
def _logit_deltas(probabilities: Any, labels: Any, rows: Any, smallest: Any) -> Any:
    """Turn probabilities [B, O] into dL/dlogit in place: subtract 1 at the label, divide by B; return L."""
    num_images, loss = np.float32(len(rows)), 0.0
    for b in range(len(rows)):
        label = labels[rows[b]]
        loss -= np.log(max(probabilities[b, label], smallest))
        probabilities[b, label] -= np.float32(1)
    flat = probabilities.ravel()
    for i in range(flat.size):
        flat[i] = flat[i] / num_images
    return loss / len(rows)


@_compile
def rmsprop(
    grads: Any, base: Any, scores: Any, effective: Any, square: Any, velocity: Any, constants: Any
) -> None:
    """Update scores, state and effective weights, all flat. velocity: empty without momentum."""
    weight_decay, lr, smoothing, rest, eps, momentum = constants
    for layer in range(len(grads)):
        grad, w, s, e = grads[layer], base[layer], scores[layer], effective[layer]
        squares, velocities = square[layer], velocity[layer]
        for i in range(grad.size):
            g = grad[i] * w[i]
            if weight_decay != 0:
                g = g + weight_decay * s[i]
            squares[i] = squares[i] * smoothing + g * g * rest
            step = g / (np.sqrt(squares[i]) + eps)
            if momentum != 0:
                velocities[i] = velocities[i] * momentum + step
                step = velocities[i]
            s[i] = s[i] - step * lr
            e[i] = w[i] if s[i] >= 0 else np.float32(0)


@_compile
def adam(grads: Any, base: Any, scores: Any, effective: Any, mean: Any, square: Any, constants: Any) -> None:
    """Update scores, state and effective weights, all flat."""
    weight_decay, step_size, correction, beta1, rest1, beta2, rest2, eps = constants
    for layer in range(len(grads)):
        grad, w, s, e = grads[layer], base[layer], scores[layer], effective[layer]
        means, squares = mean[layer], square[layer]
        for i in range(grad.size):
            g = grad[i] * w[i]
            if weight_decay != 0:
                g = g + weight_decay * s[i]
            means[i] = means[i] * beta1 + g * rest1
            squares[i] = squares[i] * beta2 + g * g * rest2
            s[i] = s[i] - means[i] / (np.sqrt(squares[i]) / correction + eps) * step_size
            e[i] = w[i] if s[i] >= 0 else np.float32(0)


@_compile
def sgd(grads: Any, base: Any, scores: Any, effective: Any, velocity: Any, constants: Any) -> None:
    """Update scores, state and effective weights, all flat. velocity: empty without momentum."""
    weight_decay, lr, momentum = constants
    for layer in range(len(grads)):
        grad, w, s, e = grads[layer], base[layer], scores[layer], effective[layer]
        velocities = velocity[layer]
        for i in range(grad.size):
            g = grad[i] * w[i]
            if weight_decay != 0:
                g = g + weight_decay * s[i]
            if momentum != 0:
                velocities[i] = velocities[i] * momentum + g
                g = velocities[i]
            s[i] = s[i] - g * lr
            e[i] = w[i] if s[i] >= 0 else np.float32(0)
