"""Forward and backward of K masked networks at once, written by hand: the readable reference.

The backward pass of a ReLU network without biases takes three lines. The gradient of its input is
never computed, and the whole training step compiles into one graph without autograd.

In bfloat16 the products run on the *signs* of the weights, which are exact in it, and each
layer's constant c multiplies the product afterwards, in float32 (paper, section 2: weights are
+c or -c). Activations and their gradients are rounded; masks are not.

Letters: K tasks, B images of a batch, D input pixels, O and I a layer's outputs and inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.specs.training import Matmul

SMALLEST = float(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class FixedWeights:
    """The base network as training uses it, one entry per layer.

    base: float32 [O, I]. operand: what a mask multiplies for the products: the base itself, or
    its signs in bfloat16. gains: what multiplies a product, float32 scalars; None for 1.
    """

    base: tuple[Tensor, ...]
    operand: tuple[Tensor, ...]
    gains: tuple[Tensor | None, ...]


def fix_weights(base: Sequence[Tensor], matmul: Matmul) -> FixedWeights:
    """Prepare ``base``, float32 [O, I] per layer, for products in ``matmul``."""
    base = tuple(base)
    if matmul != "bfloat16":
        return FixedWeights(base, base, (None,) * len(base))
    return FixedWeights(base, tuple(w.sign().bfloat16() for w in base), tuple(w.abs().max() for w in base))


def forward(
    x_KBD: Tensor, effective: Sequence[Tensor], gains: Sequence[Tensor | None] | None = None
) -> tuple[list[Tensor], Tensor]:
    """Return each layer's input [K, B, I], in the dtype of the weights, and the logits [K, B, O].

    effective: [K, O, I] per layer. gains: see ``FixedWeights``; None for 1 everywhere.
    """
    inputs, hidden = [], x_KBD
    for layer, weight_KOI in enumerate(effective):
        inputs.append(hidden.to(weight_KOI.dtype))
        hidden = _scaled(torch.bmm(inputs[-1], weight_KOI.transpose(1, 2)), gains[layer] if gains else None)
        if layer < len(effective) - 1:
            hidden = hidden.relu()
    return inputs, hidden


def gradients(
    x_KBD: Tensor,
    labels_KB: Tensor,
    effective: Sequence[Tensor],
    gains: Sequence[Tensor | None] | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Return dL/d(effective weight), float32 [K, O, I] per layer, and the loss [K].

    L is the mean cross-entropy (nats) of a task's batch, at most 87 for an image whose right
    class has a probability of 0 in float32. labels_KB: int64.
    """
    inputs, logits_KBO = forward(x_KBD, effective, gains)
    p_KBO = torch.softmax(logits_KBO, dim=2)
    labels_KB1 = labels_KB.unsqueeze(2)
    right_KB = p_KBO.gather(2, labels_KB1).squeeze(2).clamp_min(SMALLEST)
    delta = (p_KBO - _one_hot(labels_KB1, logits_KBO.shape[2])) / labels_KB.shape[1]
    grads: list[Tensor] = []
    for layer in range(len(effective) - 1, -1, -1):
        weight_KOI, h_KBI = effective[layer], inputs[layer]
        narrow = delta.to(weight_KOI.dtype)
        grads.append(torch.bmm(narrow.transpose(1, 2), h_KBI).float())
        if layer > 0:
            back = _scaled(torch.bmm(narrow, weight_KOI), gains[layer] if gains else None)
            delta = torch.where(h_KBI > 0, back, 0.0)
    return grads[::-1], -right_KB.log().mean(dim=1)


def _scaled(product: Tensor, gain: Tensor | None) -> Tensor:
    return product if gain is None else product.float() * gain


def _one_hot(labels_KB1: Tensor, num_outputs: int) -> Tensor:
    return (torch.arange(num_outputs, device=labels_KB1.device) == labels_KB1).float()
