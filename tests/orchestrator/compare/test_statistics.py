"""Means and paired differences, by hand."""

import math

import pytest

from orchestrator.compare.statistics import paired_difference, student_t, summary


def test_mean_and_standard_deviation_by_hand():
    found = summary([1.0, 2.0, 6.0])
    assert (found.mean, found.n) == (3.0, 3)
    assert found.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert summary([5.0]).std is None


def test_the_quantiles_of_the_printed_tables():
    assert [round(student_t(n), 3) for n in (1, 2, 4, 30)] == [12.706, 4.303, 2.776, 2.042]


def test_only_pairs_count():
    found = paired_difference({0: 3.0, 1: 5.0, 7: 100.0}, {1: 2.0, 0: 2.0, 9: 50.0})
    assert (found.mean, found.n) == (2.0, 2)
    half = 12.7062 * math.sqrt(2) / math.sqrt(2)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-5)


def test_a_single_pair_has_no_interval_and_none_no_difference():
    one = paired_difference({0: 3.0}, {0: 1.0})
    assert (one.mean, one.low, one.high, one.n) == (2.0, None, None, 1)
    assert paired_difference({0: 3.0}, {1: 1.0}) is None
