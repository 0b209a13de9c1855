"""Packed masks: exact bytes, zero padding, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DamagedFileError
from core.masks.bits import bits_digest, num_ones, pack, packed_num_bytes, unpack

SHAPES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4)


def test_bytes_of_a_literal_mask():
    """C order, least significant bit first, each layer padded to a whole byte."""
    first = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)  # bits 0, 3, 4, 8
    second = np.array([[0, 1]], dtype=bool)
    assert pack([first, second]).tobytes() == bytes([0b00011001, 0b00000001, 0b00000010])


@settings(deadline=None)
@given(shapes=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_unpack_undoes_pack(shapes, seed):
    draw = np.random.default_rng(seed)
    mask = [draw.random(shape) < draw.random() for shape in shapes]
    packed = pack(mask)
    assert packed.size == packed_num_bytes(shapes)
    assert num_ones(packed) == sum(int(layer.sum()) for layer in mask)
    for layer, again in zip(mask, unpack(packed.tobytes(), shapes), strict=True):
        assert np.array_equal(layer, again)


def test_a_set_padding_bit_is_refused():
    with pytest.raises(DamagedFileError, match="layer 1 of a mask has padding bits"):
        unpack(bytes([0xFF, 0b1000]), [(2, 4), (1, 3)])


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_wrong_length_is_refused(length):
    with pytest.raises(DamagedFileError, match=f"a mask of {length} bytes, expected 2"):
        unpack(bytes(length), [(3, 3)])


def test_digest_is_sha256_of_the_bytes():
    assert bits_digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
