"""The span of the stored masks, read from Psi, and the way from a point in it to a stored mask.

Psi's eigenvectors with the largest eigenvalues span the stored z. By the Hebbian rule that is exact, as
Psi = (1/d) sum z z^T. By the Storkey rule Psi is close to the projection on the span: measured, its
eigenvalues are 0.35 to 0.99 within it and -k/d outside. So the projection P on the span depends on the
masks alone, not on the rule, and P z = z for every stored z.

From a point s of the span, z <- clip(GAIN P z, -1, 1) leads to a corner of the cube. With a gain below 2 a
mixture such as sign(z1 + z2 + z3) is left again, since P takes it to (z1 + z2 + z3) / 2 where the three are
nearly orthogonal, and the largest part of s wins; at a gain of 1 nothing would grow.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.hopfield.memory import HopfieldLayer

GAIN = 1.3
MAX_ROUNDS = 200
LEAST_EIGENVALUE = 1e-3  # those of Psi outside of the span are 0 or negative


def span_of(layer: HopfieldLayer, num_masks: int) -> NDArray[np.float32]:
    """Return an orthonormal basis of a layer's stored z, float32 [D, num_masks or fewer]."""
    values, vectors = layer.spectrum
    num_kept = min(num_masks, int((values > LEAST_EIGENVALUE).sum()))
    return np.ascontiguousarray(vectors[:, len(values) - num_kept :])


def project(span_DK: Tensor, values_D: Tensor) -> Tensor:
    """Return the part of ``values_D`` that lies in the span."""
    return span_DK @ (span_DK.T @ values_D)


def nearest_stored(span_DK: Tensor, scores_D: Tensor) -> Tensor:
    """Return the corner z in {-1, +1} [D] to which the scores lead; mostly, a stored mask."""
    z_D = scores_D / scores_D.abs().mean().clamp(min=1e-12) / 2
    for _ in range(MAX_ROUNDS):
        before_D, z_D = z_D, (GAIN * project(span_DK, z_D)).clamp(-1, 1)
        if torch.equal(before_D, z_D):
            break
    return torch.where(z_D >= 0, 1.0, -1.0)
