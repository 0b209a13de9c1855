"""Which baseline a run is, in place of supermasks."""

import math
from dataclasses import dataclass
from typing import Literal

from core.specs.base import Spec, require

BaselineKind = Literal["batch_ensemble", "psp", "separate_heads", "upper_bound", "lower_bound"]


@dataclass(frozen=True, kw_only=True)
class BaselineSpec(Spec):
    """A method to hold supermasks against (``core.baselines``); its weights are trained, or random.

    kind: of the methods of the paper's comparisons. random_weights: the trunk is never trained (``batch_ensemble``: Rand W; ``separate_heads``).
    first_lr: of the trunk, which is trained with the first task; None: that of every task.
    """

    kind: BaselineKind
    random_weights: bool = False
    first_lr: float | None = None

    def __post_init__(self) -> None:
        shared = self.kind in ("batch_ensemble", "separate_heads")
        ok = shared or not self.random_weights
        require(ok, "baseline.random_weights", self.random_weights, f"false for {self.kind!r}")
        ok = self.first_lr is None or (shared and math.isfinite(self.first_lr) and self.first_lr > 0)
        require(ok, "baseline.first_lr", self.first_lr, f"null for {self.kind!r}, or a number > 0")
