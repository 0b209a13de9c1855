"""Storing rules against small examples worked out by hand, and what a memory holds."""

import numpy as np
import pytest

from core.hopfield.memory import (
    are_fixed_points,
    empty_memory,
    memorise,
    settle,
    store,
)

A, B = np.array([True, True, False]), np.array([True, False, False])


def patterns(num, width, seed=0):
    return np.random.default_rng(seed).random((num, width)) < 0.5


def test_hebbian_against_the_literal_sum():
    """z_a = (1, 1, -1), z_b = (1, -1, -1): Psi = (z_a z_a^T + z_b z_b^T) / 3."""
    memory = memorise("hebbian", [[A], [B]])
    expected = np.array([[2, 0, -2], [0, 2, 0], [-2, 0, 2]]) / 3
    np.testing.assert_allclose(memory.layers[0].psi, expected, atol=1e-7)
    assert memory.layers[0].total.tolist() == [2, 0, -2]
    np.testing.assert_allclose(memory.means()[0], [1, 0, -1])


def test_storkey_against_an_example_worked_out_by_hand():
    """After z_a: Psi = (z_a z_a^T - I) / 3, with zeros on the diagonal. For z_b,.

    h = Psi z_b = (0, 2/3, 0): (1/3) [0 1 -1; 1 0 -1; -1 -1 0] (1, -1, -1) = (0, 2, 0) / 3.
    """
    first = memorise("storkey", [[A]])
    psi_a = np.array([[0, 1, -1], [1, 0, -1], [-1, -1, 0]]) / 3
    np.testing.assert_allclose(first.layers[0].psi, psi_a, atol=1e-7)
    z, h = np.array([1.0, -1, -1]), np.array([0, 2 / 3, 0])
    change = (np.outer(z, z) - np.eye(3) - np.outer(z, h) - np.outer(h, z)) / 3
    np.testing.assert_allclose(change[0], [0, -5 / 9, -1 / 3])  # (z0 z1 - z0 h1) / 3 = (-1 - 2/3) / 3
    second = store(first, [B])
    np.testing.assert_allclose(second.layers[0].psi, psi_a + change, atol=1e-7)


@pytest.mark.parametrize("rule", ["hebbian", "storkey"])
def test_stored_patterns_are_fixed_points_below_capacity(rule):
    """Ten of 256 neurons: below 256 / (4 ln 256) = 11.5, where Hebbian still holds them all."""
    stored = patterns(10, 256)
    psi = memorise(rule, [[mask] for mask in stored]).layers[0].psi
    assert are_fixed_points(psi, stored).all()
    flipped = stored ^ (np.random.default_rng(1).random(stored.shape) < 0.1)
    assert (flipped != stored).any(axis=1).all()
    assert (settle(psi, flipped) == stored).all()


def test_storkey_holds_more_than_hebbian():
    stored = patterns(60, 256)
    held = {
        rule: are_fixed_points(memorise(rule, [[mask] for mask in stored]).layers[0].psi, stored).mean()
        for rule in ("hebbian", "storkey")
    }
    assert held["storkey"] > 0.9
    assert held["hebbian"] < 0.5


def test_what_was_not_stored_is_no_fixed_point():
    psi = memorise("storkey", [[mask] for mask in patterns(5, 256)]).layers[0].psi
    assert not are_fixed_points(psi, patterns(5, 256, seed=9)).any()


def test_psi_is_symmetric_and_its_bytes_do_not_grow():
    one = memorise("storkey", [[m, m[:64]] for m in patterns(1, 128)])
    many = memorise("storkey", [[m, m[:64]] for m in patterns(20, 128)])
    assert one.num_bytes == many.num_bytes == 4 * (128**2 + 128 + 64**2 + 64)
    assert many.num_masks == 20
    for layer in many.layers:
        np.testing.assert_allclose(layer.psi, layer.psi.T, atol=1e-6)


def test_storing_leaves_the_memory_it_started_from():
    empty = empty_memory("hebbian", [3])
    store(empty, [A])
    assert (empty.num_masks, empty.layers[0].psi.any()) == (0, False)
    assert empty.means()[0].tolist() == [0, 0, 0]
