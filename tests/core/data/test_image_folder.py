"""Folders of images: what is read, what is left out, and what is refused before anything runs."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data.image_folder import decode_test, decode_train, find_images
from core.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Write three 8-bit pictures in each of two classes, and return the folder of data sets."""
    for part in ("train", "val"):
        for name, level in (("dark", 40), ("light", 200)):
            home = tmp_path / "made" / part / name
            home.mkdir(parents=True)
            for number in range(3):
                Image.fromarray(np.full((20, 24, 3), level + number, dtype=np.uint8)).save(
                    home / f"{number}.png"
                )
    return tmp_path


def find(folder):
    return find_images(folder, "made", 2)


def test_nothing_is_left_out_of_a_plain_folder(folder):
    found = find(folder)
    assert (len(found.train), found.train_labels.tolist()) == (6, [0, 0, 0, 1, 1, 1])
    assert found.left_out == ()


def test_hidden_files_and_folders_are_no_images_and_no_classes(folder):
    before = find(folder)
    train = folder / "made" / "train"
    (train / ".ipynb_checkpoints").mkdir()
    (train / "dark" / ".ipynb_checkpoints").mkdir()
    (train / "dark" / "._0.png").write_bytes(b"resource fork")
    (train / ".DS_Store").write_bytes(b"x")
    after = find(folder)
    assert (after.train, after.digest, after.left_out) == (before.train, before.digest, ())


def test_other_endings_and_deeper_images_are_counted_by_folder(folder):
    dark, light = folder / "made" / "train" / "dark", folder / "made" / "train" / "light"
    for number in range(2):
        (dark / f"{number}.png").rename(dark / f"{number}.bmp")
    (light / "more").mkdir()
    (light / "0.png").rename(light / "more" / "0.png")
    (folder / "made" / "train" / "loose.png").write_bytes(b"x")
    assert find(folder).left_out == (
        f"{folder}/made/train: 1 file beside the folders of classes",
        f"{dark}: 2 files that are no .jpeg, .jpg, .png (.bmp)",
        f"{light}: 1 image in folders of its own",
    )


def test_what_name_and_size_show_is_refused_before_anything_runs(folder):
    path = folder / "made" / "train" / "light" / "zz.jpg"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"zz\.jpg is empty \(0 bytes\)"):
        find(folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"zz\.jpg is a folder"):
        find(folder)
    path.rmdir()
    path.symlink_to("/nowhere/x.jpg")
    with pytest.raises(DataError, match=r"zz\.jpg is a link to /nowhere/x\.jpg, which cannot be reached"):
        find(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"zz\.jpg is no plain file"):
        find(folder)
    path.unlink()
    path = folder / "made" / "train" / "middle"
    path.symlink_to("/nowhere/middle")
    with pytest.raises(DataError, match=r"middle is a link to /nowhere/middle, which cannot be reached"):
        find(folder)


def test_other_numbers_of_classes_are_named(folder):
    with pytest.raises(DataError, match="num_classes says 3; they are: dark, light"):
        find_images(folder, "made", 3)


def test_file_names_that_are_no_utf_8_are_read(folder):
    train = os.fsencode(folder / "made" / "train" / "dark")
    Path(os.fsdecode(train + b"/0.png")).rename(os.fsdecode(train + b"/caf\xe9.png"))
    found = find(folder)
    assert len(found.train) == 6
    assert decode_test(found.train[-1], 8).shape == (3, 8, 8)


@pytest.mark.parametrize("decode", [decode_test, lambda *a: decode_train(*a, np.random.default_rng(1))])
def test_16_bits_are_the_same_picture_as_8(tmp_path, decode):
    grey = np.random.default_rng(0).integers(0, 256, (20, 24)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    small, wide = (decode(str(tmp_path / name), 8) for name in ("8.png", "16.png"))
    assert np.array_equal(small, wide)
    assert 60 < wide.mean() < 200


def test_pixels_of_32_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(tmp_path / "a.png", format="TIFF")
    with pytest.raises(DataError, match=r"a\.png has pixels of 32 bits"):
        decode_test(str(tmp_path / "a.png"), 8)


def png(width: int, height: int, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    parts = chunk(b"IHDR", header), extra, chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


BOMB = chunk(b"zTXt", b"x\0\0" + zlib.compress(b"a" * 80_000_000))


@pytest.mark.parametrize(
    "content",
    [
        png(10_000, 10_000),
        png(20_000, 20_000),
        png(2**31 - 1, 2**31 - 1),
        png(8, 8, BOMB),
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_bombs_and_fragments_are_named_by_their_path(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.png (is too large|cannot be read)"):
        decode_test(str(tmp_path / "bad.png"), 8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_on_pixels_holds_without_a_warning_as_an_error(tmp_path):
    (tmp_path / "bad.png").write_bytes(png(10_000, 10_000))
    with pytest.raises(DataError, match=r"bad\.png has 10,000 x 10,000 pixels, expected at most"):
        decode_test(str(tmp_path / "bad.png"), 8)
