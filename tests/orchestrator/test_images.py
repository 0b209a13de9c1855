"""Images from files: PNG and .npy, in a data set's units, and the words for what is no image."""

import struct

import numpy as np
import pytest
from PIL import Image

from core.errors import InferenceError
from orchestrator.images import flat_images, read_images, write_png

SHAPE = (6, 5)


def image(scale: int = 255) -> np.ndarray:
    return np.random.default_rng(0).integers(0, scale + 1, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("scale", [255, 16])
def test_a_png_gives_back_the_pixels_in_the_units_of_the_data_set(tmp_path, scale):
    write_png(tmp_path / "a.png", image(scale), scale)
    found = read_images(tmp_path / "a.png", SHAPE, scale)
    assert found.shape == (1, 30)
    np.testing.assert_allclose(found, image(scale).reshape(1, -1), atol=scale / 500)


def test_a_colour_png_is_taken_as_grey(tmp_path):
    Image.fromarray(image()).convert("RGB").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_images(tmp_path / "a.png", SHAPE, 255), image().reshape(1, -1))


@pytest.mark.parametrize("shape", [(6, 5), (1, 6, 5), (30,), (1, 30)])
def test_npy_of_any_layout(tmp_path, shape):
    np.save(tmp_path / "a.npy", image().reshape(shape))
    np.testing.assert_array_equal(read_images(tmp_path / "a.npy", SHAPE, 255), image().reshape(1, -1))


def test_npy_of_many_images_and_of_fractions(tmp_path):
    many = np.stack([image(), image().T.reshape(SHAPE)])
    np.save(tmp_path / "a.npy", many)
    np.save(tmp_path / "b.npy", many / 255)
    whole, fractions = (read_images(tmp_path / name, SHAPE, 255) for name in ("a.npy", "b.npy"))
    assert whole.shape == (2, 30)
    np.testing.assert_allclose(fractions, whole, rtol=1e-6)


WRONG_ARRAYS = [
    (np.zeros((5, 6)), "found 5 x 6 pixels, the network takes 6 x 5"),
    (np.zeros(31), "found 31 pixels"),
    (np.zeros((0, 6, 5)), "found 0 x 6 x 5 pixels"),
    (np.array(3.0), "found 1 pixels"),
    (np.zeros((1, 1, 6, 5)), "found 1 x 1 x 6 x 5 pixels"),
    (np.full(SHAPE, np.nan), "not finite numbers"),
    (np.full(SHAPE, np.inf), "not finite numbers"),
    (np.full(SHAPE, 1e300), "not finite numbers"),
    (np.full(SHAPE, 1e308), "not finite numbers"),
    (np.full(SHAPE, np.finfo(np.longdouble).max), "not finite numbers"),
    (np.full(SHAPE, 1.5), "expected fractions from 0 to 1"),
    (np.full(SHAPE, -1), "whole numbers from 0 to 255"),
    (np.array([["a"]]), "expected one array of numbers"),
]


@pytest.mark.parametrize(("array", "words"), WRONG_ARRAYS)
def test_arrays_that_are_no_images(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InferenceError, match=words) as raised:
        read_images(tmp_path / "a.npy", SHAPE, 255)
    assert "a.npy" in str(raised.value)


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.jpg"])
@pytest.mark.parametrize("content", [b"", b"no image"])
def test_files_that_are_no_images(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InferenceError, match=f"{name} cannot be read"):
        read_images(tmp_path / name, SHAPE, 255)


def test_files_that_are_not_there_or_of_another_size(tmp_path):
    with pytest.raises(InferenceError, match="No such file"):
        read_images(tmp_path / "nowhere.png", SHAPE, 255)
    write_png(tmp_path / "a.png", np.zeros((4, 4), dtype=np.uint8), 255)
    with pytest.raises(InferenceError, match="found 4 x 4 pixels, the network takes 6 x 5"):
        read_images(tmp_path / "a.png", SHAPE, 255)
    Image.new("L", (5, 6)).save(tmp_path / "b.png", format="JPEG")
    with pytest.raises(InferenceError, match="not a PNG image"):
        read_images(tmp_path / "b.png", SHAPE, 255)


def test_a_pickle_in_an_npy_is_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InferenceError, match="cannot be read"):
        read_images(tmp_path / "a.npy", SHAPE, 255)


def test_a_png_of_16_bits_is_the_picture_of_8(tmp_path):
    Image.fromarray(image()).save(tmp_path / "8.png")
    Image.fromarray(image().astype(np.uint16) * 257).save(tmp_path / "16.png")
    small, wide = (read_images(tmp_path / name, SHAPE, 255) for name in ("8.png", "16.png"))
    np.testing.assert_array_equal(small, wide)


def test_an_npy_that_announces_more_than_it_holds_is_refused_at_once(tmp_path):
    shape = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000, 8, 8), }"
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + shape.ljust(117) + b"\n"
    (tmp_path / "a.npy").write_bytes(header + b"0" * 100)
    with pytest.raises(InferenceError, match=r"a\.npy cannot be read"):
        read_images(tmp_path / "a.npy", SHAPE, 255)
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(100_000_000 * 64 * 8 + 128)  # sparse: 51 GB that take no space
    with pytest.raises(InferenceError, match=r"a\.npy has 51,200,000,128 bytes, expected at most"):
        read_images(tmp_path / "a.npy", SHAPE, 255)


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    for name in ("a\0b.png", "a\0b.npy"):
        with pytest.raises(InferenceError, match="null"):
            read_images(tmp_path / name, SHAPE, 255)


def test_arrays_in_memory_are_named_as_asked():
    with pytest.raises(InferenceError, match="images: found 3 x 3 pixels"):
        flat_images(np.zeros((3, 3)), SHAPE, "images")
