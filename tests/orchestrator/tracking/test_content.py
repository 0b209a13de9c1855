"""The decision log as curves: every decision of a short stream, a thousand of a long one."""

import itertools
import math

import pytest

from orchestrator.tracking.content import curves, shortened


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


@pytest.mark.parametrize(
    ("value", "short"),
    [(0.123456, 0.1235), (0.0321673, 0.03217), (7440.6, 7441), (1_488_123.0, 1_488_123), (-3.0, -3), (1, 1)],
)
def test_values_are_as_long_as_mlflows_columns_are_wide(value, short):
    assert shortened(value) == short
    assert shortened(shortened(value)) == shortened(value)


def test_a_diverged_loss_is_sent_as_it_is():
    assert math.isnan(shortened(math.nan))
    assert shortened(math.inf) == math.inf
