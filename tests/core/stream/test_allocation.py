"""The allocation rule on hand-made gradients, and the score of a whole log."""

import math

import numpy as np
import pytest

from core.specs.training import AllocationSpec
from core.stream.allocation import Choice, choose, num_candidates, score_allocation


def decide(gradient, num_masks, **rules):
    return choose(AllocationSpec(**rules), num_masks, np.array(gradient, dtype=np.float64))


def test_the_first_decision_takes_mask_0_untested():
    found = decide([], 0)
    assert (found.action, found.mask, found.max_nu) == ("first", 0, None)


def test_it_trains_the_mask_of_lowest_gradient_where_it_stands_out():
    """Nu = softmax(0, ln 3) = (1/4, 3/4), so 2 * 3/4 = 1.5 against 1 + epsilon."""
    gradient = [0.0, -math.log(3)]
    assert decide(gradient, 2, epsilon=0.4).mask == 1
    assert decide(gradient, 2, epsilon=0.4).action == "train"
    found = decide(gradient, 2, epsilon=0.6)
    assert (found.action, found.mask) == ("allocate", 2)
    assert found.max_nu == pytest.approx(0.75)
    assert (found.num_masks, found.num_candidates) == (2, 2)


def test_exactly_1_plus_epsilon_stands_out():
    """The paper allocates below it: 2 * 1/2 = 1 is not below 1."""
    assert decide([0.0, 0.0], 2, epsilon=0.0).action == "train"
    assert decide([0.0, 0.0], 2, epsilon=1e-12).action == "allocate"


def test_a_tie_goes_to_the_lower_mask():
    assert decide([-5.0, -7.0, -7.0, -1.0], 4, epsilon=0.5).mask == 1


@pytest.mark.parametrize("gradient", [-100.0, 0.0, 100.0])
def test_with_one_candidate_the_papers_rule_always_allocates(gradient):
    """At k = 1, nu = (1): 1 * 1 < 1 + epsilon whatever the batch."""
    assert num_candidates(AllocationSpec(min_candidates=1), 1) == 1
    assert decide([gradient], 1, min_candidates=1).action == "allocate"


def test_with_five_candidates_one_mask_can_be_recognised():
    assert num_candidates(AllocationSpec(min_candidates=5), 1) == 5
    assert num_candidates(AllocationSpec(min_candidates=5), 7) == 7
    assert decide([-1.0, 0, 0, 0, 0], 1).action == "train"
    assert decide([-0.01, 0, 0, 0, 0], 1).action == "allocate"


def test_an_untrained_mask_is_never_chosen_however_low_its_gradient():
    """Here the best candidate is not allocated: the allocated one does not stand out."""
    found = decide([0.0, 0, -9.0, 0, 0], 2)
    assert (found.action, found.mask) == ("allocate", 2)
    found = decide([0.0, 0, -9.0, 0, 0], 2, mask_budget=2)
    assert (found.action, found.mask) == ("reuse", 0)


@pytest.mark.parametrize(("rule", "mask"), [("reuse", 1), ("skip", None)])
def test_past_the_budget_nothing_is_allocated(rule, mask):
    found = decide([0.0, -0.01], 2, mask_budget=2, past_budget=rule)
    assert (found.action, found.mask) == (rule, mask)
    assert decide([0.0, -3.0], 2, mask_budget=2, past_budget=rule).action == "train"


def test_huge_gradients_do_not_overflow():
    assert decide([-1e6, 1e6], 2).max_nu == 1.0


def choice(action, mask):
    return Choice(action=action, mask=mask, num_masks=0, num_candidates=0, max_nu=None)


def test_a_log_is_scored_with_the_true_tasks():
    log = [
        (choice("first", 0), 0),
        (choice("train", 0), 1),  # mask 0 merges tasks 0 and 1; task 1 has no mask of its own
        (choice("allocate", 1), 2),
        (choice("train", 0), 0),
        (choice("allocate", 2), 2),  # task 2 has one already
        (choice("reuse", 1), 2),
        (choice("skip", None), 3),
    ]
    found = score_allocation(log)
    assert (found.num_masks, found.num_missed, found.num_duplicates) == (3, 2, 1)
    assert (found.num_merged, found.num_reused, found.num_skipped) == (1, 1, 1)
    assert found.homes == (0, 2, 2)
