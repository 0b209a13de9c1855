"""Objectives of task inference: how unsure a superposition is about an image, and the gradient.

H: the entropy of softmax(z) over all s outputs. G: logsumexp of the logits with those of the real
classes held constant; its gradient is softmax(z) on the superfluous neurons and zero on the real
ones (paper, section 4 and Lemma 1). E, which is not in the paper: the energy, minus logsumexp of
the real logits, as used in out-of-distribution detection. The inferred task is the one whose
coefficient lowers the objective most. S, for single masks, compares channel statistics in place of outputs
(``core.inference.modules``); SE adds S and E, each standardised over the masks (``core.inference.search``).

Letters: B images, O outputs; the first l outputs are the real classes.
"""

import torch
from torch import Tensor

from core.specs.inference import Objective

NO_STATISTICS = (
    "objective S compares the statistics of batch normalisation, and the network has none; use objective E"
)


def logit_gradient(logits_BO: Tensor, objective: Objective, num_classes: int) -> Tensor:
    """Return the gradient of each image's own objective with respect to its logits, [B, O]."""
    if objective == "E":
        real = torch.softmax(logits_BO[:, :num_classes], dim=1)
        return -torch.nn.functional.pad(real, (0, logits_BO.shape[1] - num_classes))
    log_p = torch.log_softmax(logits_BO, dim=1)
    p = log_p.exp()
    if objective == "H":
        return -p * (log_p + entropy(logits_BO).unsqueeze(1))
    p[:, :num_classes] = 0
    return p


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy (nats) of softmax over the last axis, [..., O] -> [...]."""
    log_p = torch.log_softmax(logits, dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


def plain_score(logits: Tensor, objective: Objective, num_classes: int) -> Tensor:
    """Return the score of each image under a single mask, [..., O] -> [...]; lower is better.

    H: the entropy. G: minus the highest real logit. E: minus logsumexp of the real logits.
    """
    if objective == "H":
        return entropy(logits)
    if objective == "E":
        return -logits[..., :num_classes].logsumexp(dim=-1)
    return -logits[..., :num_classes].amax(dim=-1)
