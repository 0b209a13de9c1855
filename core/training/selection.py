"""Which weights a mask keeps: those above a threshold, or the exact top k of each layer (Edge-Popup).

top_k ranks by |score|; ties go to the lower index, so a mask has one exact density on every device.
Straight-through, the gradient of a mask goes to the quantity it ranks: to the score, or to |score| and
from there to the score with its sign.

Letters: K tasks, N weights of a layer.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.specs.network import MaskSpec

THRESHOLD = MaskSpec()
MOST_DENSITY = 0.5  # cap per layer under the Erdos-Renyi budget
ROUNDING = 1e-9  # (1 - 0.9) * 10 is 0.99999... in floating point


def layer_density(spec: MaskSpec, shape: Sequence[int]) -> float:
    """Return the fraction of a layer of (out, in, ...) weights that a mask keeps, before rounding.

    With a multiplier S it is min(0.5, S * (out + in) / (out * in * height * width)).
    """
    if spec.density is not None:
        return spec.density
    assert spec.density_multiplier is not None, "top_k has one of the two"
    return min(MOST_DENSITY, spec.density_multiplier * (shape[0] + shape[1]) / math.prod(shape))


def num_kept(spec: MaskSpec, shape: Sequence[int]) -> int | None:
    """Return the number of weights that a mask keeps in a layer, m - floor((1 - d) * m); None for ``threshold``."""
    if spec.rule == "threshold":
        return None
    num = math.prod(shape)
    return max(1, num - math.floor((1 - layer_density(spec, shape)) * num + ROUNDING))


def kept_by_layer(spec: MaskSpec, shapes: Sequence[Sequence[int]]) -> tuple[int | None, ...]:
    """Return ``num_kept`` of each layer."""
    return tuple(num_kept(spec, shape) for shape in shapes)


def mask_of(scores: Tensor, kept: int | None) -> Tensor:
    """Return the mask of a layer's scores, bool [K, ...]; ``kept`` is ``num_kept``."""
    if kept is None:
        return scores >= 0
    size_KN = scores.abs().flatten(1)
    lowest_K1 = _kth_largest(size_KN, kept)
    above_KN = size_KN > lowest_K1
    tied_KN = size_KN == lowest_K1
    missing_K1 = kept - above_KN.sum(dim=1, keepdim=True)
    if not scores.is_cuda and bool((tied_KN.sum(dim=1, keepdim=True) == missing_K1).all()):
        return (above_KN | tied_KN).view_as(scores)
    first_KN = tied_KN & (tied_KN.cumsum(dim=1) <= missing_K1)
    return (above_KN | first_KN).view_as(scores)


def score_gradient(mask_gradient: Tensor, scores: Tensor, kept: int | None) -> Tensor:
    """Return dL/dscore from dL/dmask, both [K, ...]; ``mask_gradient`` is overwritten."""
    return mask_gradient if kept is None else mask_gradient.mul_(scores.sign())


def _kth_largest(size_KN: Tensor, kept: int) -> Tensor:
    """Return the ``kept``-th largest value of each row, [K, 1], by selection instead of a sort."""
    position = size_KN.shape[1] - kept
    if size_KN.is_cuda:
        return size_KN.kthvalue(position + 1, dim=1, keepdim=True).values
    rows = np.partition(size_KN.numpy(), position, axis=1)
    return torch.from_numpy(np.ascontiguousarray(rows[:, position : position + 1]))
