"""Image files and data sets, generated and edited: what is decoded is what Pillow and numpy decode, or an error of ours."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import core.data.cifar
import core.data.idx
from core.data.cifar import ARCHIVE, RECORD_BYTES, load_cifar100
from core.data.decode import decode
from core.data.idx import load_idx
from core.data.idx_places import FILES
from core.errors import DataError, InferenceError
from orchestrator.images import read_images
from tests.fuzz.edits import EDITS, Edit, edited
from tests.fuzz.explore import explore

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]
SHAPE = (6, 5)
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.just(SHAPE)
SEEDS = st.integers(0, 2**32 - 1)
SOME_EDITS = st.just([]) | EDITS


def pixels(seed: int, shape: tuple[int, ...], kind: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


def image_of(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    """Return a picture of random pixels in any of Pillow's modes."""
    if mode == "I;16":
        return Image.fromarray(pixels(seed, size, np.uint16))
    image = Image.fromarray(pixels(seed, (*size, 4)))
    return image.convert("RGB").convert(mode) if mode != "RGBA" else image


def saved(image: Image.Image, kind: str) -> bytes:
    target = io.BytesIO()
    image.save(target, format=kind)
    return target.getvalue()


def reference(content: bytes, mode: str) -> NDArray[np.uint8]:
    """Return what Pillow decodes, with 16 bits rounded to 8."""
    with Image.open(io.BytesIO(content)) as image:
        if image.mode.startswith("I"):
            wide = np.asarray(image).astype(np.int64)
            return np.asarray(Image.fromarray(((2 * wide + 257) // 514).astype(np.uint8)).convert(mode))
        return np.asarray(image.convert(mode))


PNG_CASES = st.tuples(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]), SIZES, SEEDS, SOME_EDITS)


def test_a_png_is_decoded_as_pillow_does_or_refused(tmp_path):
    path = tmp_path / "a.png"

    def as_pillow(case: tuple[str, tuple[int, int], int, list[Edit]]) -> None:
        mode, size, seed, edits = case
        content = edited(saved(image_of(mode, size, seed), "PNG"), edits)
        path.write_bytes(content)
        for shape, grey in ((size, "L"), ((3, *size), "RGB")):
            try:
                found = read_images(path, shape, 255.0).reshape(shape)
            except InferenceError:
                assert edits
                continue
            wanted = reference(content, grey)
            np.testing.assert_array_equal(found, wanted if grey == "L" else wanted.transpose(2, 0, 1))

    explore(as_pillow, PNG_CASES)


JPEG_CASES = st.tuples(
    st.sampled_from(["L", "RGB", "CMYK"]),
    st.sampled_from(["JPEG", "GIF", "BMP", "TIFF", "WEBP"]),
    SIZES,
    SEEDS,
    SOME_EDITS,
)


def test_any_image_of_a_folder_is_decoded_as_pillow_does_or_refused(tmp_path):
    path = tmp_path / "a.jpg"

    def as_pillow_too(case: tuple[str, str, tuple[int, int], int, list[Edit]]) -> None:
        mode, kind, size, seed, edits = case
        image = image_of(mode, size, seed)
        content = edited(saved(image if kind in ("JPEG", "TIFF") else image.convert("RGB"), kind), edits)
        path.write_bytes(content)
        try:
            found = np.asarray(decode(path, "RGB"))
        except DataError:
            assert edits
            return
        np.testing.assert_array_equal(found, reference(content, "RGB"))

    explore(as_pillow_too, JPEG_CASES)


SHAPES = st.sampled_from(
    [(6, 5), (3, 6, 5), (1, 6, 5), (30,), (2, 30), (5, 6), (0, 6, 5), (), (1, 1, 6, 5), (2, 6, 5)]
)
KINDS = st.sampled_from(
    ["u1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8", "<f16", "?", "<c8", "<U3", "O", "<M8[s]", "i4,f4"]
)


def npy_content(shape: tuple[int, ...], kind: str, order: Any, seed: int) -> bytes:
    target = io.BytesIO()
    array = pixels(seed, shape) if kind.strip("<>")[0] in "ui" else pixels(seed, shape) / 255
    np.save(
        target,
        np.asarray(array, order=order).astype(kind, order=order) if kind != "O" else array.astype(object),
    )
    return target.getvalue()


def test_an_npy_file_is_read_as_numpy_does_or_refused(tmp_path):
    path = tmp_path / "a.npy"

    def as_numpy(case: tuple[tuple[int, ...], str, str, int, list[Edit]]) -> None:
        shape, kind, order, seed, edits = case
        content = edited(npy_content(shape, kind, order, seed), edits)
        path.write_bytes(content)
        try:
            found = read_images(path, SHAPE, 255.0)
        except InferenceError:
            is_plain = shape in ((6, 5), (1, 6, 5), (30,), (2, 30), (2, 6, 5)) and kind[1:] in (
                "i4",
                "i8",
                "f4",
                "f8",
            )
            assert edits or not is_plain
            return
        array = np.load(io.BytesIO(content), allow_pickle=False)
        wanted = array.astype(np.float64) * (255 if array.dtype.kind == "f" else 1)
        np.testing.assert_array_equal(found, wanted.reshape(-1, 30).astype(np.float32))

    explore(as_numpy, st.tuples(SHAPES, KINDS, st.sampled_from("CF"), SEEDS, SOME_EDITS))


def idx_file(values: NDArray[np.uint8]) -> bytes:
    header = np.array([2048 + values.ndim, *values.shape], dtype=">i4")
    return header.tobytes() + values.tobytes()


@pytest.fixture
def idx_files(tmp_path, monkeypatch):
    """Publish a data set of three images, without cache and network; return its arrays and files."""
    arrays = [pixels(0, (3, 4, 4)), pixels(1, (3,)), pixels(2, (2, 4, 4)), pixels(3, (2,))]
    contents = [idx_file(array) for array in arrays]
    digests = tuple((hashlib.sha256(content).hexdigest(), "") for content in contents)
    monkeypatch.setattr(core.data.idx, "SHA256", {"mnist": digests})
    monkeypatch.setattr(core.data.idx, "MIRRORS", {"mnist": ("http://127.0.0.1:9/",)})
    monkeypatch.setattr(core.data.idx, "cache_folder", lambda name: tmp_path / "cache")
    return arrays, contents


def test_an_edited_idx_file_is_refused_or_is_the_published_one(tmp_path, idx_files):
    arrays, contents = idx_files

    def published(case: tuple[int, bool, list[Edit], list[Edit]]) -> None:
        number, is_packed, inside, outside = case
        for index, (stem, content) in enumerate(zip(FILES, contents, strict=True)):
            edits = (inside, outside) if index == number else ([], [])
            unpacked = edited(content, edits[0])
            packed = gzip.compress(unpacked, mtime=0) if is_packed else unpacked
            (tmp_path / f"{stem}.gz").write_bytes(edited(packed, edits[1]))
        try:
            found = load_idx("mnist", tmp_path)
        except DataError:
            assert inside or outside
            return
        for one, wanted in zip(found, arrays, strict=True):
            np.testing.assert_array_equal(one, wanted)

    explore(published, st.tuples(st.integers(0, 3), st.booleans(), SOME_EDITS, SOME_EDITS))


MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["train.bin", "test.bin", "cifar/train.bin", "../../test.bin", "/etc/train.bin", "x", "é" * 99]
        ),
        st.sampled_from(
            [
                tarfile.REGTYPE,
                tarfile.REGTYPE,
                tarfile.REGTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.DIRTYPE,
            ]
        ),
        st.sampled_from([0, 1, RECORD_BYTES, 3 * RECORD_BYTES]),
    ),
    min_size=1,
    max_size=5,
)


def tar_of(members: list[tuple[str, bytes, int]]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for number, (name, kind, size) in enumerate(members):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "test.bin"
            info.size = size if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO((pixels(number, (size,)) % 100).tobytes()))
    return target.getvalue()


def test_an_archive_of_records_is_read_as_tarfile_does_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(core.data.cifar, "cache_folder", lambda name: tmp_path / "cache")

    def as_tarfile(case: tuple[list[tuple[str, bytes, int]], list[Edit], list[Edit]]) -> None:
        members, inside, outside = case
        archive = edited(tar_of(members), inside)
        (tmp_path / ARCHIVE).write_bytes(edited(gzip.compress(archive, mtime=0), outside))
        try:
            found = load_cifar100(tmp_path)
        except DataError:
            return
        for name, (images, labels) in zip(("train.bin", "test.bin"), found, strict=True):
            wanted = last_member(archive, name)
            assert (
                np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1).tolist()
                == wanted.tolist()
            )

    train, test = (("train.bin", tarfile.REGTYPE, num * RECORD_BYTES) for num in (3, 2))
    whole = MEMBERS.map(lambda members: [*members, train, test])
    explore(as_tarfile, st.tuples(whole | MEMBERS, SOME_EDITS, st.just([]) | st.just([]) | EDITS))


def last_member(archive: bytes, name: str) -> NDArray[np.uint8]:
    """Return the fine labels and pixels of the last plain file with this name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = [one for one in opened.getmembers() if Path(one.name).name == name and one.isfile()]
        content = opened.extractfile(files[-1]).read()
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD_BYTES)[:, 1:]
