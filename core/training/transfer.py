"""Transfer: a task starts from the running mean of the masks, or scores, of all tasks before it.

``masks`` is the paper's, ``scores`` that of the original code (of their sizes, where top_k ranks
those; the original averages signed scores there too). The mean of k masks says of each weight
how often it was kept; scores that rank by |score| start at that share, and scores with a threshold
at zero start at twice the share less one, both times the bound b = 1 / sqrt(fan_in) of an
independent start. A hundredth of the task's own independent start breaks ties.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.networks.base import fan_in
from core.specs.network import MaskSpec

OWN_SHARE = 0.01  # of a task's own independent start, beside the mean of the masks


@dataclass(frozen=True)
class Earlier:
    """What a task starts from. means: of ``num_tasks`` masks (0 to 1) or scores, float32 a layer."""

    kind: Literal["none", "masks", "scores"]
    num_tasks: int
    means: tuple[NDArray[np.float32], ...]


def start_from(earlier: Earlier | None, own: Sequence[NDArray[np.float32]], rule: MaskSpec) -> None:
    """Change each layer of a task's independent start scores in place; None, or no task, leaves them."""
    if earlier is None or earlier.num_tasks == 0:
        return
    for scores, mean in zip(own, earlier.means, strict=True):
        if earlier.kind == "scores":
            scores[...] = mean
            continue
        bound = np.float32(1 / np.sqrt(fan_in(scores.shape)))
        level = mean if rule.rule == "top_k" else 2 * mean - 1
        scores[...] = bound * level + OWN_SHARE * scores
