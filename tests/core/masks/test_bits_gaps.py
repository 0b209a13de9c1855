"""Sparse masks as gaps: exact, and near the entropy once zstd has coded them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.masks.bits import from_gaps, rare_bit, to_gaps


@settings(deadline=None)
@given(st.integers(1, 400), st.floats(0, 1), st.integers(0, 2**32), st.sampled_from([0, 1]))
def test_gaps_lead_back_to_the_same_bits(num_bytes, share, seed, bit):
    bits = np.random.default_rng(seed).random(8 * num_bytes) < share
    packed = np.packbits(bits, bitorder="little")
    assert np.array_equal(from_gaps(to_gaps(packed, bit), bit, num_bytes), packed)


@pytest.mark.parametrize("place", [0, 254, 255, 256, 509, 510, 511, 799])
def test_long_gaps_are_exact_at_their_edges(place):
    bits = np.zeros(800, dtype=bool)
    bits[place] = True
    packed = np.packbits(bits, bitorder="little")
    assert to_gaps(packed, 1).tolist() == [255] * (place // 255) + [place % 255]
    assert np.array_equal(from_gaps(to_gaps(packed, 1), 1, 100), packed)


def test_gaps_past_the_end_are_refused():
    with pytest.raises(ValueError, match="bit 256 of a mask of 16 bits"):
        from_gaps(np.array([255, 0], dtype=np.uint8), 1, 2)


def test_which_bit_is_rare():
    assert [rare_bit(ones, 100) for ones in (0, 5, 19, 20, 50, 80, 81, 100)] == [
        1,
        1,
        1,
        None,
        None,
        None,
        0,
        0,
    ]
