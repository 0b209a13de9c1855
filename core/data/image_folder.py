"""Folders of images, ``<folder>/{train,val}/<class>/<image>``: their files, and crops of them.

Only file names are kept in memory: threads decode a batch while the previous one is computed. Hidden files
and folders, whose names start with a dot, are none of the images and classes.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.decode import decode
from core.errors import DataError, plural

SUFFIXES = (".jpeg", ".jpg", ".png")
MAX_NAMED = 8  # classes, files or folders in a message
AREA = (0.08, 1.0)  # of a training crop, relative to the image
RATIO = (3 / 4, 4 / 3)  # of its width to its height
RESIZE = 256 / 224  # short side at test, relative to the side of the centre crop
MAX_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Files of both parts, sorted by class and then by name; labels number the classes in this order.

    digest: sha256 (hex) of file names and sizes. left_out: for people, which files are not read, by folder.
    """

    train: tuple[str, ...]
    train_labels: NDArray[np.int64]
    test: tuple[str, ...]
    test_labels: NDArray[np.int64]
    digest: str
    left_out: tuple[str, ...]


def find_images(data_folder: Path | None, name: str, num_classes: int) -> ImageFiles:
    """List the images of ``<data_folder>/<name>``; none is opened. Raises DataError."""
    if data_folder is None:
        raise DataError(
            f"benchmark.folder {name}: set SUPSUP_DATA, or data_dir, to the folder that holds {name}/"
        )
    root = data_folder / name
    whole, found, left_out = hashlib.sha256(), {}, list[str]()
    for part in ("train", "val"):
        classes = _classes(root / part)
        if len(classes) != num_classes:
            shown = ", ".join(classes[:MAX_NAMED]) + (", ..." if len(classes) > MAX_NAMED else "")
            raise DataError(
                f"{root / part}: found {len(classes)} folders of classes, benchmark.num_classes says "
                f"{num_classes}; they are: {shown or 'none'}"
            )
        found[part] = _part(root / part, classes, whole)
        left_out += _left_out(root / part, classes)
        if part == "val" and classes != _classes(root / "train"):
            raise DataError(f"{root}: train and val have folders of other names, expected the same classes")
    (train, train_labels), (test, test_labels) = found["train"], found["val"]
    return ImageFiles(
        train=train,
        train_labels=train_labels,
        test=test,
        test_labels=test_labels,
        digest=whole.hexdigest(),
        left_out=tuple(left_out),
    )


def _part(root: Path, classes: Sequence[str], whole: Any) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        of_class = sorted(path for path in _visible(root / name) if _is_image(path.name))
        if not of_class:
            raise DataError(
                f"{root / name}: found no {', '.join(SUFFIXES)} files, expected images of a class"
            )
        for path in of_class:
            whole.update(os.fsencode(f"{root.name}/{name}/{path.name} {_checked_size(path)}\n"))
        files += map(str, of_class)
        labels += [label] * len(of_class)
    return tuple(files), np.array(labels, dtype=np.int64)


def _checked_size(path: Path) -> int:
    """Return the bytes of an image file. Raises DataError if its name and size alone show that it is none."""
    found = _status(path)
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no plain file"
        raise DataError(f"{path} is {what}, expected an image file by its name; rename or remove it")
    if found.st_size == 0:
        raise DataError(f"{path} is empty (0 bytes), expected an image; fetch it again or remove it")
    return found.st_size


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        what = f"a link to {path.readlink()}, which cannot be reached" if path.is_symlink() else "unreadable"
        raise DataError(f"{path} is {what} ({error.strerror}); restore the file or remove this") from error


def _left_out(root: Path, classes: Sequence[str]) -> Iterator[str]:
    """Yield, as text, which files of a part are not read: other endings, other places."""
    beside = [path for path in _visible(root) if path.is_file()]
    if beside:
        yield f"{root}: {plural(len(beside), 'file')} beside the folders of classes"
    for name in classes:
        other, deeper = Counter[str](), list[str]()
        for path in _visible(root / name):
            if path.is_dir():
                deeper += [file for _, _, files in os.walk(path) for file in files if _is_image(file)]
            elif not _is_image(path.name):
                other[path.suffix.lower() or "no ending"] += 1
        if other:
            kinds = ", ".join(kind for kind, _ in other.most_common(MAX_NAMED))
            files = plural(other.total(), "file")
            yield f"{root / name}: {files} that are no {', '.join(SUFFIXES)} ({kinds})"
        if deeper:
            yield f"{root / name}: {plural(len(deeper), 'image')} in folders of its own"


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _visible(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}; expected a folder of images for each class") from error


def _classes(root: Path) -> list[str]:
    found = _visible(root)
    for path in found:
        if path.is_symlink():
            _status(path)  # a class may be a link, but not to nothing
    return sorted(path.name for path in found if path.is_dir())


def decode_test(path: str, size: int) -> NDArray[np.uint8]:
    """Return the centre of an image resized to a short side of 256 / 224 * size, uint8 [3, size, size]."""
    with decode(path, "RGB") as image:
        short = round(size * RESIZE)
        factor = short / min(image.size)
        width, height = (max(size, round(side * factor)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        resized = image.resize((width, height), _bilinear())
        return _planes(resized.crop((left, top, left + size, top + size)))


def decode_all(paths: Sequence[str], size: int) -> NDArray[np.uint8]:
    """Return images as at test, decoded by threads, uint8 [N, 3, size, size]."""
    images = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    with ThreadPoolExecutor(max(2, min(16, len(os.sched_getaffinity(0))))) as threads:
        for image, decoded in zip(
            images, threads.map(lambda path: decode_test(path, size), paths), strict=True
        ):
            image[:] = decoded
    return images


def decode_train(path: str, size: int, draw: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random crop of an image, resized and flipped at random, uint8 [3, size, size].

    The crop has 8 to 100 % of the area and an aspect ratio of 3:4 to 4:3, as is usual for ImageNet.
    """
    with decode(path, "RGB") as image:
        box = _random_box(image.width, image.height, draw)
        pixels = _planes(image.resize((size, size), _bilinear(), box=box))
        return np.ascontiguousarray(pixels[:, :, ::-1]) if draw.integers(2) else pixels


def _random_box(width: int, height: int, draw: np.random.Generator) -> tuple[int, int, int, int]:
    for _ in range(MAX_TRIES):
        area = width * height * draw.uniform(*AREA)
        ratio = np.exp(draw.uniform(*np.log(RATIO)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(draw.integers(width - w + 1)), int(draw.integers(height - h + 1))
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _planes(image: Any) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR
