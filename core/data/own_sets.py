"""Data sets that the user's own function makes, as arrays or as sets of (image, label).

The function takes nothing, or the folder where the user keeps data sets (``folder``, a Path or None). For a data set it
returns what ``_parts`` lists; for the tasks of a benchmark, one such data set per task. A set is anything that gives
pairs of an image and a label, as torchvision's do, or mappings with both, as those of Hugging Face. Nothing of these
libraries is imported: images are arrays, tensors or Pillow images, told apart by what they can do.
"""

import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import MAX_BYTES, NAMES, OwnArrays, checked_arrays, to_bytes
from core.data.decode import to_array
from core.errors import DataError
from core.own_code.guard import user_code
from core.own_code.imports import find_code
from core.own_code.torch_settings import same_settings
from core.specs.base import MAX_TASKS
from core.specs.own_code import OwnCode

T = TypeVar("T")
IMAGE_KEYS = ("image", "img", "images", "pixel_values")
LABEL_KEYS = ("label", "labels", "fine_label", "target", "y")
TEST_KEYS = ("test", "validation", "val")
EXPECTED = (
    "expected two sets of (image, label), train and test; or ((x_train, y_train), (x_test, y_test)); or a mapping with the "
    "keys x_train, y_train, x_test and y_test, or train and test"
)


def made_dataset(code: OwnCode, folder: Path | None) -> OwnArrays:
    """Return the data set that the user's function makes. Raises ConfigError and DataError."""
    return _called(code, folder, lambda found: _arrays(str(code), found))


def made_tasks(code: OwnCode, folder: Path | None) -> tuple[OwnArrays, ...]:
    """Return the data of each task that the user's function makes. Raises ConfigError and DataError."""
    return _called(code, folder, lambda found: tuple(_tasks(code, found)))


def _called(code: OwnCode, folder: Path | None, read: Callable[[Any], T]) -> T:
    """Call the user's function, and read what it made, which may run more of her code."""
    with same_settings(code):
        maker = find_code(code)
        with user_code(f"{code} failed", "expected a function without arguments, or of (folder)"):
            return read(maker(folder) if _takes_folder(maker) else maker())


def _takes_folder(maker: Any) -> bool:
    return "folder" in inspect.signature(maker).parameters


def _tasks(code: OwnCode, found: Any) -> Iterator[OwnArrays]:
    if isinstance(found, Mapping) or not isinstance(found, Iterable):
        raise DataError(f"{code}: found a {type(found).__name__}, expected a list of tasks, each a data set")
    num_tasks, shape = 0, None
    for number, one in enumerate(found):
        if number >= MAX_TASKS:
            raise DataError(f"{code}: found more than {MAX_TASKS:,} tasks")
        arrays = _arrays(f"{code}: task {number}", one)
        shape, num_tasks = shape or arrays.shape, number + 1
        if arrays.shape != shape:
            raise DataError(
                f"{arrays.source}: found images of {list(arrays.shape)}, expected {list(shape)} as in task 0"
            )
        yield arrays
    if not num_tasks:
        raise DataError(f"{code}: found no task, expected a list of tasks, each a data set")


def _arrays(source: str, found: Any) -> OwnArrays:
    train, test = _parts(source, found)
    pairs = {"train": _pair(f"{source}: train", train), "test": _pair(f"{source}: test", test)}
    return checked_arrays(
        source,
        {
            f"{part}_{what}": array
            for part, pair in pairs.items()
            for what, array in zip(("images", "labels"), pair, strict=True)
        },
    )


def _parts(source: str, found: Any) -> tuple[Any, Any]:
    """Return the training and the test set."""
    if isinstance(found, Mapping):
        values = {
            key: next((found[name] for name in names if name in found), None) for key, names in NAMES.items()
        }
        if all(value is not None for value in values.values()):
            return tuple((values[f"{part}_images"], values[f"{part}_labels"]) for part in ("train", "test"))  # type: ignore[return-value]
        test = next((found[key] for key in TEST_KEYS if key in found), None)
        if "train" in found and test is not None:
            return found["train"], test
        raise DataError(
            f"{source}: found the keys {', '.join(map(str, list(found)[:8])) or 'none'}; {EXPECTED}"
        )
    if isinstance(found, tuple | list) and len(found) == 2:
        return found[0], found[1]
    size = f" of {len(found)}" if isinstance(found, tuple | list) else ""
    raise DataError(f"{source}: found a {type(found).__name__}{size}; {EXPECTED}")


def _pair(source: str, part: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return images, channels last, and labels of one part."""
    if isinstance(part, tuple | list) and len(part) == 2 and all(getattr(one, "ndim", 0) for one in part):
        return _channels_last(part[0], per_image=3), np.asarray(_plain(part[1]))
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for number, row in enumerate(_rows(source, part)):
        where = f"{source}: row {number}"
        image, label = _image_and_label(where, row)
        images.append(to_bytes(where, _channels_last(image, per_image=2)))
        labels.append(_label(where, label))
        _check_image(where, images)
    if not images:
        raise DataError(f"{source}: found no image, expected pairs of an image and a label")
    return np.stack(images), np.array(labels, dtype=np.int64)


def _rows(source: str, part: Any) -> Iterator[Any]:
    """Yield the rows of a set; one with a length need not say where it ends."""
    if hasattr(part, "__len__") and hasattr(part, "__getitem__"):
        return (part[number] for number in range(len(part)))
    if isinstance(part, Iterable):
        return iter(part)
    raise DataError(f"{source}: found a {type(part).__name__}, expected a set of (image, label)")


def _image_and_label(where: str, row: Any) -> tuple[Any, Any]:
    if isinstance(row, Mapping):
        found = [next((row[key] for key in keys if key in row), None) for keys in (IMAGE_KEYS, LABEL_KEYS)]
        if found[0] is None or found[1] is None:
            raise DataError(
                f"{where}: found the keys {', '.join(map(str, row))}, expected one of {', '.join(IMAGE_KEYS)} and one of "
                f"{', '.join(LABEL_KEYS)}"
            )
        return found[0], found[1]
    if isinstance(row, tuple | list) and len(row) >= 2:
        return row[0], row[1]
    raise DataError(f"{where}: found a {type(row).__name__}, expected (image, label)")


def _label(where: str, label: Any) -> int:
    try:
        return operator.index(label.item() if hasattr(label, "item") else label)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: found label {label!r:.40}, expected a whole number") from error


def _channels_last(image: Any, *, per_image: int) -> NDArray[Any]:
    """Return one image or many with channels last. per_image: dimensions of an image, or of images, without channels.

    Tensors have channels first by convention, arrays last; where only one reading has 1 or 3 channels, it is that.
    """
    is_tensor = hasattr(image, "detach")
    array = np.asarray(_plain(image))
    if array.ndim != per_image + 1:
        return array
    first, last = array.shape[-3] in (1, 3), array.shape[-1] in (1, 3)
    if first and (is_tensor or not last):
        array = np.moveaxis(array, -3, -1)
    return array[..., 0] if array.shape[-1] == 1 else array


def _plain(value: Any) -> Any:
    """Return a tensor or a Pillow image as an array, anything else as it is."""
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    return to_array(value) if hasattr(value, "convert") and hasattr(value, "mode") else value


def _check_image(where: str, images: list[NDArray[np.uint8]]) -> None:
    """Raise DataError unless the last image has the shape of the first, and all of them fit."""
    found, expected = images[-1].shape, images[0].shape
    if found != expected:
        raise DataError(
            f"{where}: found an image of {list(found)}, expected {list(expected)} as in row 0; resize them"
        )
    if len(images) * images[0].nbytes > MAX_BYTES:
        raise DataError(f"{where}: found more than {MAX_BYTES:,} bytes of images in one set")
