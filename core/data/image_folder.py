"""Find and decode folders of images, ``<folder>/{train,val}/<class>/<image>``.

Only file names are kept in memory: threads decode a batch while the previous one is computed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError, first_line

SUFFIXES = (".jpeg", ".jpg", ".png")
AREA = (0.08, 1.0)  # of a training crop, relative to the image
RATIO = (3 / 4, 4 / 3)  # of its width to its height
RESIZE = 256 / 224  # short side at test, relative to the side of the centre crop
MAX_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Files of both parts, sorted by class and then by name; labels number the classes in this order.

    digest: sha256 (hex) of file names and sizes.
    """

    train: tuple[str, ...]
    train_labels: NDArray[np.int64]
    test: tuple[str, ...]
    test_labels: NDArray[np.int64]
    digest: str


def find_images(data_folder: Path | None, name: str, num_classes: int) -> ImageFiles:
    """List the images of ``<data_folder>/<name>``. Raises DataError."""
    if data_folder is None:
        raise DataError(
            f"benchmark.folder {name}: set SUPSUP_DATA, or data_dir, to the folder that holds {name}/"
        )
    root = data_folder / name
    whole, found = hashlib.sha256(), {}
    for part in ("train", "val"):
        classes = sorted(path.name for path in _folders(root / part))
        if len(classes) != num_classes:
            raise DataError(
                f"{root / part}: found {len(classes)} folders of classes, benchmark.num_classes says {num_classes}"
            )
        found[part] = _part(root / part, classes, whole)
        if part == "val" and classes != sorted(path.name for path in _folders(root / "train")):
            raise DataError(f"{root}: train and val have folders of other names, expected the same classes")
    (train, train_labels), (test, test_labels) = found["train"], found["val"]
    return ImageFiles(
        train=train, train_labels=train_labels, test=test, test_labels=test_labels, digest=whole.hexdigest()
    )


def _part(root: Path, classes: Sequence[str], whole: Any) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        of_class = sorted(p for p in (root / name).iterdir() if p.suffix.lower() in SUFFIXES)
        if not of_class:
            raise DataError(
                f"{root / name}: found no {', '.join(SUFFIXES)} files, expected images of a class"
            )
        for path in of_class:
            whole.update(f"{root.name}/{name}/{path.name} {path.stat().st_size}\n".encode())
        files += map(str, of_class)
        labels += [label] * len(of_class)
    return tuple(files), np.array(labels, dtype=np.int64)


def _folders(root: Path) -> list[Path]:
    try:
        return [path for path in root.iterdir() if path.is_dir()]
    except OSError as error:
        raise DataError(f"{root}: {error.strerror}; expected a folder of images for each class") from error


def decode_test(path: str, size: int) -> NDArray[np.uint8]:
    """Return the centre of an image resized to a short side of 256 / 224 * size, uint8 [3, size, size]."""
    with _opened(path) as image:
        short = round(size * RESIZE)
        factor = short / min(image.size)
        width, height = (max(size, round(side * factor)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        resized = image.resize((width, height), _bilinear())
        return _planes(resized.crop((left, top, left + size, top + size)))


def decode_train(path: str, size: int, draw: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random crop of an image, resized and flipped at random, uint8 [3, size, size].

    The crop has 8 to 100 % of the area and an aspect ratio of 3:4 to 4:3, as is usual for ImageNet.
    """
    with _opened(path) as image:
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


def _opened(path: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(path).convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(
            f"{path} cannot be decoded ({first_line(error)}); fetch it again or remove it"
        ) from error


def _planes(image: Any) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR
