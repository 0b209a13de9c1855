"""Objectives of task inference: what a superposition is least sure about, as a gradient.

H: the entropy of softmax(z) over all s outputs. G: logsumexp of the logits with those of the
real classes held constant; its gradient is softmax(z) on the superfluous neurons and zero on
the real ones (paper, section 4 and Lemma 1). The inferred task is the one whose coefficient
lowers the objective most.

Letters: B images, O outputs; the first l outputs are the real classes.
"""

import torch
from torch import Tensor

from core.specs import Objective


def logit_gradient(logits_BO: Tensor, objective: Objective, num_classes: int) -> Tensor:
    """Return the gradient of each image's own objective with respect to its logits, [B, O]."""
    log_p = torch.log_softmax(logits_BO, dim=1)
    p = log_p.exp()
    if objective == "H":
        return -p * (log_p + entropy(logits_BO).unsqueeze(1))
    p[:, :num_classes] = 0
    return p


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy (nats) of softmax over the last axis, [...]."""
    log_p = torch.log_softmax(logits, dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


def plain_score(logits: Tensor, objective: Objective, num_classes: int) -> Tensor:
    """Return how ill one mask alone suits each image, [..., O] -> [...]; lower is better.

    H: the entropy. G: minus the highest real logit.
    """
    if objective == "H":
        return entropy(logits)
    return -logits[..., :num_classes].amax(dim=-1)
