"""Transfer: a task starts from the running mean of the masks, or scores, of all earlier tasks.

``masks`` is the paper's method, ``scores`` that of the original code (with top_k the mean of |score|,
where the original averages signed scores). The mean of k masks is the fraction f of tasks that kept a
weight. Scores ranked by |score| start at b f, and scores with a threshold at zero at b (2 f - 1), where
b = 1 / sqrt(fan_in) bounds an independent start, a hundredth of which is added to break ties.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.networks.base import fan_in
from core.specs.network import MaskSpec

OWN_SHARE = 0.01  # weight of a task's independent start beside the mean of the masks


@dataclass(frozen=True)
class Earlier:
    """The start of a task. means: of ``num_tasks`` masks (0 to 1) or scores, float32 per layer."""

    kind: Literal["none", "masks", "scores"]
    num_tasks: int
    means: tuple[NDArray[np.float32], ...]


def start_from(earlier: Earlier | None, own: Sequence[NDArray[np.float32]], rule: MaskSpec) -> None:
    """Apply transfer to a task's independent initial scores, in place; a no-op without earlier tasks."""
    if earlier is None or earlier.num_tasks == 0:
        return
    for scores, mean in zip(own, earlier.means, strict=True):
        if earlier.kind == "scores":
            scores[...] = mean
            continue
        bound = np.float32(1 / np.sqrt(fan_in(scores.shape)))
        level = mean if rule.rule == "top_k" else 2 * mean - 1
        scores[...] = bound * level + OWN_SHARE * scores
