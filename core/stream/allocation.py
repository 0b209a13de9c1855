"""Scenario NNs: decide whether a batch belongs to an existing mask or a new one is allocated for it.

The rule (paper, section 3): nu = softmax(-dH/dalpha), H averaged over the whole batch. If
candidates * max(nu) < 1 + epsilon, no mask stands out and a new one is allocated; otherwise the
best one is trained further. Untrained masks may take part in the superposition (``min_candidates``)
but are never chosen: max(nu) is taken over the allocated ones. Ties go to the lower mask.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.specs.training import AllocationSpec

Action = Literal["first", "allocate", "train", "reuse", "skip"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The result of a decision.

    action: ``first`` takes mask 0 without a test; ``allocate`` takes a new mask; ``train`` the best
        one; past the budget, ``reuse`` takes the best one and ``skip`` leaves the batches out.
    mask: the mask to train, None to skip. num_masks: allocated before the decision.
    num_candidates: masks in the superposition. max_nu: over the allocated masks, None for ``first``.
    """

    action: Action
    mask: int | None
    num_masks: int
    num_candidates: int
    max_nu: float | None


def num_candidates(spec: AllocationSpec, num_masks: int) -> int:
    """Return the number of masks in the superposition when ``num_masks`` are allocated."""
    return max(num_masks, spec.min_candidates)


def choose(spec: AllocationSpec, num_masks: int, gradient_K: NDArray[np.float64]) -> Choice:
    """Decide from dH/dalpha of the candidates, float64 [candidates], allocated ones first."""
    if num_masks == 0:
        return Choice(action="first", mask=0, num_masks=0, num_candidates=0, max_nu=None)
    weight_K = np.exp(gradient_K.min() - gradient_K)
    nu_K = weight_K / weight_K.sum()
    best = int(nu_K[:num_masks].argmax())
    action, mask = _act(spec, num_masks, best, stands_out=len(nu_K) * nu_K[best] >= 1 + spec.epsilon)
    return Choice(
        action=action, mask=mask, num_masks=num_masks, num_candidates=len(nu_K), max_nu=float(nu_K[best])
    )


def _act(spec: AllocationSpec, num_masks: int, best: int, *, stands_out: bool) -> tuple[Action, int | None]:
    if stands_out:
        return "train", best
    if num_masks < spec.mask_budget:
        return "allocate", num_masks
    return ("reuse", best) if spec.past_budget == "reuse" else ("skip", None)


@dataclass(frozen=True, kw_only=True)
class AllocationScore:
    """The quality of an allocation, given the true tasks that the model never sees.

    num_masks: masks allocated. num_missed: tasks that some decision met but no mask was allocated on.
    num_duplicates: masks allocated on a task that already had one. num_merged: masks chosen by
    decisions on more than one task. num_reused, num_skipped: decisions past the budget. homes: for
    each mask, the task of most decisions that chose it; ties go to the task seen first.
    """

    num_masks: int
    num_missed: int
    num_duplicates: int
    num_merged: int
    num_reused: int
    num_skipped: int
    homes: tuple[int, ...]


def score_allocation(choices: Sequence[tuple[Choice, int]]) -> AllocationScore:
    """Score decisions, given in order as (choice, true task)."""
    allocated = [task for choice, task in choices if choice.action in ("first", "allocate")]
    tasks_of: defaultdict[int, list[int]] = defaultdict(list)
    for choice, task in choices:
        if choice.mask is not None:
            tasks_of[choice.mask].append(task)
    actions = Counter(choice.action for choice, _ in choices)
    return AllocationScore(
        num_masks=len(allocated),
        num_missed=len({task for _, task in choices} - set(allocated)),
        num_duplicates=len(allocated) - len(set(allocated)),
        num_merged=sum(len(set(tasks)) > 1 for tasks in tasks_of.values()),
        num_reused=actions["reuse"],
        num_skipped=actions["skip"],
        # most_common keeps ties in the order in which they were first seen.
        homes=tuple(Counter(tasks_of[mask]).most_common(1)[0][0] for mask in sorted(tasks_of)),
    )
