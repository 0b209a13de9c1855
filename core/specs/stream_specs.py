"""What a run without task identity means (scenario NNs): its stream, and its allocation of masks."""

from dataclasses import dataclass
from typing import Literal

from core.specs.base import MAX_TASKS, Spec, require


@dataclass(frozen=True, kw_only=True)
class StreamSpec(Spec):
    """The stream of batches without task ids (scenario NNs): which task is visited when.

    Each task is new once, in order. boundaries: ``random`` puts them anywhere: a visit lasts
        ``training.steps`` batches on average, more or less by up to ``length_jitter`` of that.
        ``aligned`` puts them where decisions fall, as the original code does: this leaks them.
    length_jitter: by how much visits of random length differ, as a share of ``training.steps``.
    return_share, repeat_share: visits to an earlier task, and to the same task once more, for
        each task.
    """

    boundaries: Literal["random", "aligned"] = "random"
    length_jitter: float = 0.25
    return_share: float = 0.25
    repeat_share: float = 0.1

    def __post_init__(self) -> None:
        jitter = self.length_jitter
        require(0 <= jitter < 1, "training.stream.length_jitter", jitter, "a number from 0 to below 1")
        for key in ("return_share", "repeat_share"):
            share = getattr(self, key)
            require(0 <= share <= 100, f"training.stream.{key}", share, "a number from 0 to 100")


@dataclass(frozen=True, kw_only=True)
class AllocationSpec(Spec):
    """When a stream without task ids gets a new mask (paper, section 3, scenario NNs).

    decide_every: batches between decisions. epsilon: a new mask where candidates * max(nu) < 1 +
        epsilon. min_candidates: masks that take part at least, untrained ones included; 5 as in
        the original code, 1 as in the paper's text, which then always allocates at k = 1.
    mask_budget: masks at most. past_budget: where a new one is wanted and there is none left,
        ``reuse`` trains the best one, ``skip`` leaves the batches out; either is counted.
    rollback: ours, not the paper's. Decisions are made without what the last one trained; where
        they then go to another mask, that training is dropped. A boundary between two decisions
        otherwise teaches the old mask some of the new task, and it goes on with all of it. A
        mask's first training is always kept.
    """

    decide_every: int = 100
    epsilon: float = 0.125
    min_candidates: int = 5
    mask_budget: int = 2500
    past_budget: Literal["reuse", "skip"] = "reuse"
    rollback: bool = False

    def __post_init__(self) -> None:
        for key in ("decide_every", "min_candidates", "mask_budget"):
            found = getattr(self, key)
            require(
                1 <= found <= MAX_TASKS,
                f"training.allocation.{key}",
                found,
                f"a number from 1 to {MAX_TASKS:,}",
            )
        require(
            0 <= self.epsilon < 1e6, "training.allocation.epsilon", self.epsilon, "a number from 0 to 1e6"
        )
