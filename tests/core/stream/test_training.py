"""Training on a stream: bits that depend on the position alone, masks that nobody overwrites."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.masks.bits import bits_digest
from core.masks.packed_sums import has_numba
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import NetworkSpec
from core.specs.training import AllocationSpec, OptimizerSpec, StreamSpec, TrainingSpec
from core.stream.schedule import plan_visits
from core.stream.training import StreamTrainer
from core.training.engine import make_step
from tests.conftest import tiny_spec

DATASET = load_dataset("synthetic")


def stream_spec(kind="rmsprop", num_tasks=4, stream=None, **rules):
    return tiny_spec(
        benchmark=BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=num_tasks),
        network=NetworkSpec(kind="mlp", hidden=(48,), outputs=32),
        training=TrainingSpec(
            task_identity="none",
            steps=60,
            batch_size=16,
            optimizer=OptimizerSpec(kind=kind, lr=3e-3),
            stream=stream or StreamSpec(return_share=0.5, repeat_share=0.25),
            allocation=AllocationSpec(**({"decide_every": 15} | rules)),
        ),
    )


def trainer(spec, states=None, pending=None, num_done=0, engine="eager"):
    return StreamTrainer(
        Problem(spec, DATASET),
        step=make_step(spec.training, engine),
        states={} if states is None else states,
        pending=pending,
        num_done=num_done,
    )


def go(spec, engine="eager"):
    states = {}
    work = trainer(spec, states, engine=engine)
    decisions = []
    while not work.is_done:
        decisions.append(work.advance())
    return decisions, {mask: bits_digest(state.packed().tobytes()) for mask, state in states.items()}


def plain(decision):
    return replace(decision, choice=replace(decision.choice, max_nu=None)), decision.choice.max_nu


@pytest.mark.parametrize("rollback", [False, True])
@pytest.mark.parametrize("kind", ["rmsprop", "adam", "sgd"])
def test_it_goes_on_from_any_decision_with_the_same_bits(kind, rollback):
    spec = stream_spec(kind, rollback=rollback)
    expected = go(spec)
    states, pending, decisions = {}, None, []
    while True:
        work = trainer(spec, dict(states), pending, len(decisions))  # a new process, as it were
        if work.is_done:
            break
        work = trainer(spec, states, pending, len(decisions))
        decisions.append(work.advance())
        pending = work.pending
    digests = {mask: bits_digest(state.packed().tobytes()) for mask, state in states.items()}
    assert (decisions, digests) == expected


@pytest.mark.skipif(not has_numba(), reason="the fused engine needs numba")
def test_the_fused_engine_gives_the_bits_of_the_reference_across_boundaries():
    spec = stream_spec(rollback=True)
    assert go(spec, "fused") == go(spec, "eager")


@pytest.mark.parametrize("rollback", [False, True])
@pytest.mark.parametrize("rule", ["reuse", "skip"])
def test_a_mask_changes_only_where_the_log_says_so(rollback, rule):
    """The digest of each mask at the end is that of the last decision that trained it and was kept."""
    spec = stream_spec(
        num_tasks=6, epsilon=0.35, mask_budget=3, past_budget=rule, rollback=rollback, min_candidates=5
    )
    decisions, digests = go(spec)
    kept = {}
    first_of = {}
    for number, decision in enumerate(decisions):
        dropped = number + 1 < len(decisions) and decisions[number + 1].rolled_back
        if decision.choice.mask is not None:
            first_of.setdefault(decision.choice.mask, decision)
            if not dropped:
                kept[decision.choice.mask] = decision.digest
    assert digests == kept
    assert len(digests) == 3  # the budget
    assert {decision.choice.action for decision in decisions} >= {"first", "allocate", rule}
    assert all(d.choice.action in ("first", "allocate") for d in first_of.values())
    assert [d.choice.action for d in decisions].count("allocate") == 2


def test_skipped_batches_train_nothing():
    spec = stream_spec(epsilon=1e5, mask_budget=1, past_budget="skip")
    decisions, digests = go(spec)
    assert [d.choice.action for d in decisions[1:]] == ["skip"] * (len(decisions) - 1)
    assert digests == {0: decisions[0].digest}


def test_with_an_epsilon_of_zero_one_mask_takes_everything():
    """The lone mask is never below 1, so it is always trained: one long run of the optimizer."""
    decisions, digests = go(stream_spec(epsilon=0.0, min_candidates=1))
    assert len(digests) == 1
    assert {d.choice.max_nu for d in decisions[1:]} == {1.0}


def test_rollback_drops_what_the_next_decision_does_not_confirm():
    """A boundary between two decisions teaches the old mask nothing of the new task."""
    spec = stream_spec(rollback=True, epsilon=0.35)
    decisions, _ = go(spec)
    for before, after in itertools.pairwise(decisions):
        if after.rolled_back:
            assert before.choice.mask != after.choice.mask
            assert before.choice.action not in ("first", "allocate")  # the first training stays
    assert any(decision.rolled_back for decision in decisions)


def test_decisions_know_where_they_are_in_the_stream():
    spec = stream_spec()
    decisions, _ = go(spec)
    visits = plan_visits(spec)
    assert sum(d.num_batches for d in decisions) == visits[-1].end
    for decision in decisions:
        visit = visits[decision.visit]
        assert visit.first <= decision.batch < visit.end
        assert decision.true_task == visit.task


def test_a_stored_state_is_not_changed_by_further_training():
    states = {}
    work = trainer(stream_spec(epsilon=0.0, min_candidates=1), states)
    work.advance()
    before = states[0]
    copies = [scores.copy() for scores in before.scores]
    work.advance()
    assert states[0] is not before
    assert all(np.array_equal(a, b) for a, b in zip(before.scores, copies, strict=True))
