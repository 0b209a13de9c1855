"""Metrics of continual learning, on matrices whose metrics are known."""

import math

import numpy as np
import pytest

from core.metrics import continual_metrics

NAN = float("nan")


def test_a_matrix_by_hand():
    r = np.array([[0.9, 0.3, 0.2], [0.7, 0.8, 0.4], [0.6, 0.9, 0.5]])
    found = continual_metrics(r, (1, 2, 3), np.array([0.1, 0.1, 0.2]))
    assert found.average_accuracy == pytest.approx((0.6 + 0.9 + 0.5) / 3)
    assert found.backward_transfer == pytest.approx(((0.6 - 0.9) + (0.9 - 0.8)) / 2)
    assert found.forgetting == pytest.approx(((0.9 - 0.6) + (0.8 - 0.9)) / 2)
    assert found.learning_accuracy == pytest.approx((0.9 + 0.8 + 0.5) / 3)
    assert found.forward_transfer == pytest.approx(((0.3 - 0.1) + (0.4 - 0.2)) / 2)
    assert found.num_compared == 2


def test_the_best_earlier_accuracy_counts_for_forgetting_and_the_first_one_for_backward_transfer():
    r = np.array([[0.5, NAN, NAN], [0.9, 0.5, NAN], [0.6, 0.5, 0.5]])
    found = continual_metrics(r, (1, 2, 3))
    assert found.forgetting == pytest.approx(((0.9 - 0.6) + 0.0) / 2)
    assert found.backward_transfer == pytest.approx(((0.6 - 0.5) + 0.0) / 2)


def test_methods_that_differ_ahead_of_learning_differ_in_forward_transfer():
    r, untrained = np.array([[0.9, 0.3], [0.9, 0.8]]), np.array([0.1, 0.1])
    better = r.copy()
    better[0, 1] = 0.5
    pair = [continual_metrics(one, (1, 2), untrained).forward_transfer for one in (r, better)]
    assert pair == pytest.approx([0.2, 0.4])
    assert math.isnan(continual_metrics(r, (1, 2)).forward_transfer)


def test_masks_that_never_change_forget_nothing():
    final = np.array([0.9, 0.8, 0.7, 0.6])
    r = np.where(np.arange(4) < np.arange(1, 5)[:, None], final, NAN)
    found = continual_metrics(r, (1, 2, 3, 4))
    assert (found.backward_transfer, found.forgetting, found.num_compared) == (0.0, 0.0, 3)
    assert found.learning_accuracy == found.average_accuracy == pytest.approx(0.75)


def test_fewer_rows_compare_the_tasks_that_were_measured_before_the_end():
    r = np.array([[0.9, 0.8, NAN, NAN], [0.5, 0.8, 0.7, 0.6]])
    found = continual_metrics(r, (2, 4))
    assert found.num_compared == 2
    assert found.backward_transfer == pytest.approx(-0.2)
    assert found.forgetting == pytest.approx(0.2)


def test_a_single_row_has_nothing_to_compare():
    found = continual_metrics(np.array([[0.9, 0.8]]), (2,))
    assert found.average_accuracy == pytest.approx(0.85)
    assert found.num_compared == 0
    assert math.isnan(found.backward_transfer)
    assert math.isnan(found.forgetting)


@pytest.mark.parametrize(("shape", "ks"), [((2, 2), (1,)), ((1, 3), (2,)), ((2, 2), (2, 1)), ((0, 0), ())])
def test_rows_that_do_not_fit_are_refused(shape, ks):
    with pytest.raises(ValueError, match="expected ascending k"):
        continual_metrics(np.zeros(shape), ks)
