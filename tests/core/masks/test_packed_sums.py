"""Sums and counts over packed bits: the compiled loops, the reference, and the bits themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core.masks.packed_sums
from core.masks.packed_sums import (
    TILE_BYTES,
    bit_counts,
    from_planes,
    from_tiles,
    has_numba,
    masked_sums,
    num_tiles,
    to_planes,
    to_tiles,
)

sizes = st.tuples(st.integers(1, 9), st.integers(1, 3 * TILE_BYTES))


@pytest.fixture(params=["compiled", "reference"])
def way(request, monkeypatch):
    assert has_numba(), "the tests want the compiled loops"
    monkeypatch.setattr(core.masks.packed_sums, "has_numba", lambda: request.param == "compiled")
    monkeypatch.setattr(core.masks.packed_sums, "MIN_THREAD_BYTES", 1)


def masks_of(num_masks: int, num_bytes: int) -> np.ndarray:
    draw = np.random.default_rng(num_masks * 1000 + num_bytes)
    return draw.integers(0, 256, (num_masks, num_bytes), dtype=np.uint8)


def bits_of(packed: np.ndarray) -> np.ndarray:
    return np.unpackbits(packed, axis=1, bitorder="little")


@given(size=sizes)
@settings(max_examples=30, deadline=None)
def test_tiles_and_planes_give_back_what_was_laid_out(size):
    packed = masks_of(*size)
    tiles = to_tiles(packed)
    assert tiles.shape == (num_tiles(size[1]), size[0], TILE_BYTES)
    np.testing.assert_array_equal(from_tiles(tiles, size[1]), packed)
    values = np.random.default_rng(0).random(8 * size[1])
    np.testing.assert_array_equal(from_planes(to_planes(values), size[1]), values)


def test_a_plane_holds_the_values_of_one_bit_of_each_byte():
    planes = to_planes(np.arange(16.0))
    assert planes.shape == (1, 8, TILE_BYTES)
    assert planes[0, :, 0].tolist() == list(range(8))
    assert planes[0, :, 1].tolist() == list(range(8, 16))
    assert not planes[0, :, 2:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_masks", [1, 2, 3, 4, 5, 11])
def test_sums_are_the_product_of_bits_and_values(way, num_masks, dtype):
    packed = masks_of(num_masks, 700)
    values = np.random.default_rng(1).standard_normal(8 * 700).astype(dtype)
    planes, expected = to_planes(values), bits_of(packed) @ values.astype(np.float64)
    found = masked_sums(to_tiles(packed), np.arange(num_masks), planes, np.arange(3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 if dtype == np.float64 else 1e-4)


def test_only_the_chosen_tiles_and_masks_count(way):
    packed, chosen = masks_of(7, 700), np.array([0, 2])
    values = np.random.default_rng(1).standard_normal(8 * 700)
    kept = values.copy()
    kept[8 * TILE_BYTES : 16 * TILE_BYTES] = 0
    found = masked_sums(to_tiles(packed), np.array([1, 4, 5]), to_planes(values), chosen)
    np.testing.assert_allclose(found, bits_of(packed[[1, 4, 5]]) @ kept, atol=1e-12)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_a_sum_does_not_depend_on_its_neighbours_or_on_threads(way, num_threads):
    """Bit for bit: alone, in any company, in any place, in any thread."""
    tiles = to_tiles(masks_of(23, 700))
    planes = to_planes(np.random.default_rng(1).standard_normal(8 * 700).astype(np.float32))
    together = masked_sums(tiles, np.arange(23), planes, np.arange(3), num_threads=num_threads)
    alone = [masked_sums(tiles, np.array([i]), planes, np.arange(3))[0] for i in range(23)]
    part = masked_sums(np.ascontiguousarray(tiles[:, 9:]), np.arange(14), planes, np.arange(3))
    assert together.tolist() == alone
    assert together[9:].tolist() == part.tolist()


@pytest.mark.parametrize("num_masks", [1, 254, 255, 256, 600])
def test_counts_are_exact_also_past_the_range_of_a_byte(way, num_masks):
    packed = masks_of(num_masks, 300)
    packed[:, 0] = 255
    found = bit_counts(to_tiles(packed), np.arange(num_masks), num_threads=2)
    np.testing.assert_array_equal(from_planes(found, 300), bits_of(packed).sum(axis=0))
    assert found[0, 0, 0] == num_masks


def test_no_masks_give_no_sums_and_zero_counts(way):
    tiles, none = to_tiles(masks_of(2, 10)), np.empty(0, dtype=np.int64)
    assert masked_sums(tiles, none, to_planes(np.ones(80)), np.arange(1)).shape == (0,)
    assert not bit_counts(tiles, none).any()
