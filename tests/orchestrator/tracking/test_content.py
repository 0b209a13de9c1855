"""The decision log as curves: every decision of a short stream, a thousand of a long one."""

import itertools

import pytest

from orchestrator.tracking.content import curves


def rows(num):
    first = {"decision": 0, "num_masks": 0, "num_candidates": 0, "max_nu": None}
    later = [{"decision": i, "num_masks": i, "num_candidates": 5, "max_nu": 0.25} for i in range(1, num)]
    return [first, *later]


def test_every_decision_of_a_short_stream():
    assert curves([]) == ()
    assert curves(rows(2)) == (
        ("stream/num_masks", 0, 0.0),  # the first decision tests nothing, so it is as sure as none
        ("stream/num_masks", 1, 1.0),
        ("stream/confidence", 1, 1.25),
    )


@pytest.mark.parametrize("num", [999, 1000, 1001, 25_000])
def test_a_long_stream_is_thinned_evenly(num):
    steps = [step for key, step, _ in curves(rows(num)) if key == "stream/num_masks"]
    assert 500 <= len(steps) <= 1000
    assert len({b - a for a, b in itertools.pairwise(steps)}) == 1
