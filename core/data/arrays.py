"""The user's own arrays: an .npz file, or a folder of .npy files, with images and labels of both parts.

Nothing in them is unpickled, and what a file announces is compared with its size before memory is taken.
Images are uint8, or floats from 0 to 1, which become round(255 * value).
"""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from core.errors import DataError, first_line
from core.specs.benchmark_checks import MAX_CLASSES, MAX_SIDE

MAX_BYTES = 2**34  # of all arrays of a data set
NAMES = {
    "train_images": ("x_train", "train_images"),
    "train_labels": ("y_train", "train_labels"),
    "test_images": ("x_test", "test_images"),
    "test_labels": ("y_test", "test_labels"),
}
LAYOUTS = "[N, height, width] or [N, height, width, 3]"


@dataclass(frozen=True, kw_only=True)
class OwnArrays:
    """Images uint8 [N, height, width] or [N, 3, height, width], labels int64 [N], and where they are from."""

    source: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    @property
    def num_classes(self) -> int:
        """One more than the largest label."""
        return int(self.train_labels.max()) + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image, without the number of images."""
        return self.train_images.shape[1:]


def read_arrays(name: str, folder: Path | None) -> OwnArrays:
    """Return the arrays at the path ``name``, in ``folder`` or else in the current folder. Raises DataError."""
    path = _find(name, folder)
    try:
        with _opened(path) as files:
            _check_bytes(path, files)
            found = {key: _array(path, key, files) for key in NAMES}
    except DataError:
        raise
    # Damaged archives raise almost anything.
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{path} cannot be read ({reason}); save it again with numpy.savez") from error
    return checked_arrays(str(path), found)


def checked_arrays(source: str, found: Mapping[str, NDArray[Any]]) -> OwnArrays:
    """Return arrays, by the keys of ``NAMES``, as a network needs them. source: for messages. Raises DataError."""
    arrays = OwnArrays(
        source=source,
        train_images=_images(source, "train_images", found["train_images"]),
        train_labels=_labels(source, "train_labels", found["train_labels"]),
        test_images=_images(source, "test_images", found["test_images"]),
        test_labels=_labels(source, "test_labels", found["test_labels"]),
    )
    _check(arrays)
    return arrays


@dataclass(frozen=True)
class _File:
    """A .npy file, on its own or in an archive, and its bytes when unpacked."""

    source: Any
    num_bytes: int

    def open(self) -> IO[bytes]:
        """Open it to read."""
        opened: IO[bytes] = self.source.open("rb") if isinstance(self.source, Path) else self.source()
        return opened


def _find(name: str, folder: Path | None) -> Path:
    given = Path(name).expanduser()
    places = [given] if folder is None else [folder / given, given]
    for place in places:
        if place.is_file() or place.is_dir():
            return place
        if place.exists():
            raise DataError(f"{place} is no plain file, expected an .npz file or a folder of .npy files")
    looked = " nor ".join(str(place.absolute()) for place in dict.fromkeys(places))
    raise DataError(
        f"benchmark.dataset {name}: found no {looked}; a relative path is looked for in data_dir, or SUPSUP_DATA, and "
        "then in the current folder"
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[dict[str, _File]]:
    """Yield the .npy files of a folder or of an archive, by name."""
    if path.is_dir():
        files = [file for file in sorted(path.glob("*.npy")) if file.is_file()]
        yield {file.stem: _File(file, file.stat().st_size) for file in files}
        return
    with zipfile.ZipFile(path) as archive:
        members = [one for one in archive.infolist() if one.filename.endswith(".npy")]
        yield {
            one.filename.removesuffix(".npy"): _File(lambda one=one: archive.open(one), one.file_size)
            for one in members
        }


def _check_bytes(path: Path, files: dict[str, _File]) -> None:
    found = sum(file.num_bytes for file in files.values())
    if found > MAX_BYTES:
        raise DataError(f"{path} takes {found:,} bytes when unpacked, expected at most {MAX_BYTES:,}")


def _array(path: Path, key: str, files: dict[str, _File]) -> NDArray[Any]:
    name = next((name for name in NAMES[key] if name in files), None)
    if name is None:
        raise DataError(
            f"{path}: found no array {' or '.join(NAMES[key])}, only {', '.join(list(files)[:8]) or 'none'}; expected "
            "images and labels to train on and to test on"
        )
    with files[name].open() as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        announced = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if dtype.hasobject or announced >= files[name].num_bytes:
        found = "Python objects" if dtype.hasobject else f"{announced:,} bytes announced"
        raise DataError(
            f"{path}: {name}: found {found}, expected numbers within its {files[name].num_bytes:,} bytes"
        )
    with files[name].open() as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _images(source: str, key: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return images with channels first."""
    where = f"{source}: {' or '.join(NAMES[key])}"
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    is_good = array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)
    if not is_good or not len(array) or not all(1 <= side <= MAX_SIDE for side in array.shape[1:3]):
        raise DataError(
            f"{where}: found shape {list(array.shape)}, expected {LAYOUTS}, with sides of 1 to {MAX_SIDE}"
        )
    pixels = to_bytes(where, array)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if pixels.ndim == 4 else pixels)


def to_bytes(where: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixels as uint8, floats from 0 to 1 as round(255 * value). where: for messages. Raises DataError."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise DataError(f"{where}: found {array.dtype}, expected uint8, or floats from 0 to 1")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN too
        raise DataError(f"{where}: found floats from {low:g} to {high:g}, expected 0 to 1, or uint8")
    pixels: NDArray[np.uint8] = np.rint(array * 255).astype(np.uint8)
    return pixels


def _labels(source: str, key: str, array: NDArray[Any]) -> NDArray[np.int64]:
    where = f"{source}: {' or '.join(NAMES[key])}"
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{where}: found {array.dtype} of shape {list(array.shape)}, expected whole numbers [N]"
        )
    if len(array) and not (array.min() >= 0 and array.max() < MAX_CLASSES):
        raise DataError(
            f"{where}: found labels from {array.min()} to {array.max()}, expected 0 to {MAX_CLASSES - 1:,}"
        )
    return array.astype(np.int64)


def _check(arrays: OwnArrays) -> None:
    """Raise DataError unless both parts fit each other, and each class has images in both."""
    source, (train, test) = arrays.source, (arrays.train_images, arrays.test_images)
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"{source}: found images {list(train.shape[1:])} to train on and {list(test.shape[1:])} to test on, expected one shape"
        )
    parts = (("train", train, arrays.train_labels), ("test", test, arrays.test_labels))
    for part, images, labels in parts:
        if len(images) != len(labels):
            raise DataError(f"{source}: found {len(images):,} {part} images and {len(labels):,} labels")
    num_classes = int(max(labels.max() for _, _, labels in parts)) + 1
    if num_classes < 2:
        raise DataError(f"{source}: found one class, expected at least 2")
    for part, _, labels in parts:
        absent = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
        if len(absent):
            raise DataError(
                f"{source}: found no {part} image of class {absent[0]}, expected images of each class from 0 to "
                f"{num_classes - 1}; number the classes without gaps"
            )
