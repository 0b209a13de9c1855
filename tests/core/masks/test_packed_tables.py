"""Rough sums over packed bits: within their bound of the true sums, whatever the values."""

import numpy as np
import pytest

import core.masks.packed_sums
from core.masks.packed_sums import to_tiles
from core.masks.packed_tables import LANES, blank_values, can_look_up, rough_sums

NUM_MASKS, NUM_BYTES = 9, 300


def tiles_of(packed=None):
    draw = np.random.default_rng(0)
    return to_tiles(
        draw.integers(0, 256, (NUM_MASKS, NUM_BYTES), dtype=np.uint8) if packed is None else packed
    )


def true_sums(tiles, values):
    bits = np.unpackbits(tiles.transpose(1, 0, 2).reshape(tiles.shape[1], -1), axis=1, bitorder="little")
    return values.astype(np.float64) @ bits.T


def values_of(kind: str, tiles) -> np.ndarray:
    draw, values = np.random.default_rng(1), blank_values(tiles)
    shape = values.shape
    values[:] = {
        "normal": lambda: draw.standard_normal(shape),
        "wide": lambda: draw.standard_normal(shape) * np.exp(20 * draw.standard_normal(shape)),
        "positive": lambda: np.full(shape, 3.7),
        "one large": lambda: np.where(draw.random(shape) < 1e-3, -1e30, 1e-30),
        "mostly zero": lambda: draw.standard_normal(shape) * (draw.random(shape) < 0.01),
        "smallest": lambda: np.full(shape, 1e-42) * draw.choice([-1, 1], shape),
    }[kind]()
    return values


def test_the_tests_have_compiled_loops():
    assert can_look_up()


@pytest.mark.parametrize("kind", ["normal", "wide", "positive", "one large", "mostly zero", "smallest"])
def test_sums_are_within_their_bound(kind):
    packed = np.random.default_rng(0).integers(0, 256, (NUM_MASKS, NUM_BYTES), dtype=np.uint8)
    packed[0], packed[1] = 255, 0  # all bits: the largest sum there is
    tiles = tiles_of(packed)
    values = values_of(kind, tiles)
    rough = rough_sums(tiles, np.arange(NUM_MASKS), values)
    assert (np.abs(rough.sums - true_sums(tiles, values)) <= rough.error[:, None]).all()
    assert (np.abs(values.astype(np.float64)).sum(axis=1) <= rough.mass).all()
    assert (rough.error <= 1e-5 * rough.mass).all()  # a thousandth of what tells masks apart


def test_zeros_are_exact():
    tiles = tiles_of()
    rough = rough_sums(tiles, np.arange(NUM_MASKS), blank_values(tiles))
    assert not rough.sums.any()
    assert not rough.error.any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_have_no_sums(wrong):
    tiles = tiles_of()
    values = blank_values(tiles)
    values[LANES - 1, 100] = wrong
    assert rough_sums(tiles, np.arange(NUM_MASKS), values) is None


def test_chosen_masks_and_threads_give_the_same(monkeypatch):
    tiles, chosen = tiles_of(), np.array([1, 4, 8])
    values = values_of("normal", tiles)
    whole = rough_sums(tiles, np.arange(NUM_MASKS), values)
    monkeypatch.setattr(core.masks.packed_tables, "MIN_THREAD_BYTES", 1)
    some = rough_sums(tiles, chosen, values, num_threads=2)
    assert np.array_equal(some.sums, whole.sums[:, chosen])
