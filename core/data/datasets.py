"""Data sets, kept as the uint8 arrays their publishers released.

digits comes with scikit-learn; MNIST and Fashion-MNIST are IDX files (``core.data.idx``), CIFAR-100 is a
binary archive (``core.data.cifar``); synthetic is generated from a fixed random stream, for tests. A folder
of images is a list of files, decoded on demand (``core.data.image_folder``).
"""

import hashlib
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import read_arrays
from core.data.cifar import load_cifar100
from core.data.idx import load_idx
from core.data.image_folder import find_images
from core.data.sequence import PartRows, part_rows, to_shape
from core.errors import DataError
from core.seeding import stream
from core.specs.benchmark import BenchmarkSpec
from core.specs.named import NUM_CLASSES

PerChannel = float | tuple[float, ...]
# (scale, mean, std) of each data set: for MNIST, CIFAR-100 and folders of images as in the paper's
# experiments, for synthetic round numbers, for the others measured on their training images.
NORMALISATION: dict[str, tuple[float, PerChannel, PerChannel]] = {
    "mnist": (255.0, 0.1307, 0.3081),
    "fashion_mnist": (255.0, 0.2860, 0.3530),
    "digits": (16.0, 0.3055, 0.3762),
    "synthetic": (255.0, 0.5, 0.25),
    "cifar100": (255.0, (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "image_folder": (255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
# Of the user's own arrays, so that a run can be used without them.
OWN_GREY: tuple[float, PerChannel, PerChannel] = (255.0, 0.5, 0.25)
OWN_COLOUR = NORMALISATION["image_folder"]


class Reader(Protocol):
    """Reads a data set that has a name. Raises DataError."""

    def __call__(self, benchmark: BenchmarkSpec | str, folder: Path | None, /) -> "Dataset":
        """Return the data set. folder: where the user keeps data sets, if anywhere."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images and labels in file order, never shuffled.

    train_images, test_images: uint8 [N, height, width] or [N, 3, height, width], 0 .. ``scale``; for a
    folder [0, 3, height, width], and train_files, test_files name one file per image; left_out says, for
    people, which of its files are not read.
    train_labels, test_labels: int64 [N].
    parts: of a sequence. A network sees (pixel / scale - mean) / std, with mean and std per channel if there are three.
    """

    name: str
    num_classes: int
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    scale: float
    mean: PerChannel
    std: PerChannel
    train_files: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()
    files_digest: str | None = None
    left_out: tuple[str, ...] = ()
    parts: tuple[PartRows, ...] = ()

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height and width in pixels, preceded by the channels if there are three."""
        return self.train_images.shape[1:]

    @property
    def num_inputs(self) -> int:
        """Number of values in a flat image."""
        return math.prod(self.image_shape)

    @property
    def num_bytes(self) -> int:
        """Bytes of images and labels together."""
        arrays = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return sum(array.nbytes for array in arrays)

    def digest(self) -> str:
        """Return the sha256 (hex) of images and labels, in the order of the fields.

        For a folder it covers the names and sizes of the files, which are too many to read.
        """
        if self.files_digest is not None:
            return self.files_digest
        whole = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            whole.update(np.ascontiguousarray(little).data)
        return whole.hexdigest()


def load_dataset(benchmark: BenchmarkSpec | str, folder: Path | None = None) -> Dataset:
    """Load the data set of a benchmark, or a data set by name.

    folder: where the user keeps data sets; None looks in the cache, then downloads.
    Raises DataError if files are missing or damaged.
    """
    name = benchmark if isinstance(benchmark, str) else benchmark.dataset
    if isinstance(benchmark, BenchmarkSpec) and benchmark.parts is not None:
        return _sequence(benchmark, folder)
    if isinstance(benchmark, BenchmarkSpec) and benchmark.is_own:
        return _arrays(benchmark, folder)
    return READERS[name](benchmark, folder)


def _made(name: str, train: tuple[Any, Any], test: tuple[Any, Any]) -> Dataset:
    """Return the data set ``name`` from images and labels of both parts."""
    return Dataset(
        name=name,
        num_classes=NUM_CLASSES[name],
        train_images=train[0],
        train_labels=train[1].astype(np.int64),
        test_images=test[0],
        test_labels=test[1].astype(np.int64),
        **_normalised(name),
    )


def _arrays(benchmark: BenchmarkSpec, folder: Path | None) -> Dataset:
    found = read_arrays(benchmark.dataset, folder)
    for key, expected, one in (
        ("num_classes", benchmark.num_classes, found.num_classes),
        ("shape", benchmark.shape, found.shape),
    ):
        if expected is not None and one != expected:
            raise DataError(
                f"{found.path}: found {one} for benchmark.{key}, expected {expected}; use the arrays that the sweep was "
                "made for, or leave the key out"
            )
    return Dataset(
        name=benchmark.dataset,
        num_classes=found.num_classes,
        train_images=found.train_images,
        train_labels=found.train_labels,
        test_images=found.test_images,
        test_labels=found.test_labels,
        **_scales(OWN_COLOUR if len(found.shape) == 3 else OWN_GREY),
    )


def _sequence(benchmark: BenchmarkSpec, folder: Path | None) -> Dataset:
    parts, shape = [load_dataset(part, folder) for part in benchmark.part_benchmarks], benchmark.image_shape
    rows = part_rows([(len(p.train_labels), len(p.test_labels), p.num_classes) for p in parts])
    pairs = list(zip(parts, rows, strict=True))
    return Dataset(
        name=benchmark.dataset,
        num_classes=benchmark.dataset_classes,
        train_images=np.concatenate([to_shape(part.train_images, shape, part.scale) for part in parts]),
        train_labels=np.concatenate([part.train_labels + at.first_class for part, at in pairs]),
        test_images=np.concatenate([to_shape(part.test_images, shape, part.scale) for part in parts]),
        test_labels=np.concatenate([part.test_labels + at.first_class for part, at in pairs]),
        parts=rows,
        **_scales(normalisation(benchmark)),
    )


def _image_folder(benchmark: BenchmarkSpec | str, folder: Path | None) -> Dataset:
    assert isinstance(benchmark, BenchmarkSpec), "a folder has no data set's name"
    files = find_images(folder, benchmark.folder or "", benchmark.dataset_classes)
    none = np.empty((0, *benchmark.image_shape), dtype=np.uint8)
    return Dataset(
        name=benchmark.folder or "",
        num_classes=benchmark.dataset_classes,
        train_images=none,
        train_labels=files.train_labels,
        test_images=none,
        test_labels=files.test_labels,
        train_files=files.train,
        test_files=files.test,
        files_digest=files.digest,
        left_out=files.left_out,
        **_normalised("image_folder"),
    )


def normalisation(benchmark: BenchmarkSpec) -> tuple[float, PerChannel, PerChannel]:
    """Return (scale, mean, std): a network sees (pixel / scale - mean) / std."""
    if benchmark.is_own or benchmark.parts is not None:
        return OWN_COLOUR if benchmark.is_coloured else OWN_GREY
    return NORMALISATION[benchmark.dataset]


def _normalised(name: str) -> dict[str, Any]:
    return _scales(NORMALISATION[name])


def _scales(values: tuple[float, PerChannel, PerChannel]) -> dict[str, Any]:
    return dict(zip(("scale", "mean", "std"), values, strict=True))


def _digits() -> Dataset:
    """Return 8 x 8 digits, values 0 to 16: the first 1,437 images to train on, the last 360 to test."""
    rows = _digits_rows()
    images, labels = rows[:, :64].reshape(-1, 8, 8).astype(np.uint8), rows[:, 64].astype(np.int64)
    return Dataset(
        name="digits",
        num_classes=NUM_CLASSES["digits"],
        train_images=images[:1437],
        train_labels=labels[:1437],
        test_images=images[1437:],
        test_labels=labels[1437:],
        **_normalised("digits"),
    )


def _digits_rows() -> NDArray[np.float64]:
    """Return scikit-learn's digits as [1797, 65]: 64 pixels and the label. Its own import takes a second."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError(
            "the digits data set comes with scikit-learn, which is not installed here; "
            "install it, or use benchmark.dataset: mnist"
        )
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.exists():
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits  # another version, which keeps the file elsewhere

    raw = load_digits()
    return np.column_stack([raw.data, raw.target])


def _synthetic() -> Dataset:
    """Return four noisy prototypes of 6 x 6 pixels, easy to learn: 512 training and 200 test images."""
    draw = stream(0, "synthetic")
    prototypes = draw.integers(0, 192, size=(4, 6, 6))
    labels = draw.integers(0, 4, size=712)
    images = (prototypes[labels] + draw.integers(0, 64, size=(712, 6, 6))).astype(np.uint8)
    return Dataset(
        name="synthetic",
        num_classes=NUM_CLASSES["synthetic"],
        train_images=images[:512],
        train_labels=labels[:512],
        test_images=images[512:],
        test_labels=labels[512:],
        **_normalised("synthetic"),
    )


def _idx(benchmark: BenchmarkSpec | str, folder: Path | None) -> Dataset:
    name = benchmark if isinstance(benchmark, str) else benchmark.dataset
    train_images, train_labels, test_images, test_labels = load_idx(name, folder)
    return _made(name, (train_images, train_labels), (test_images, test_labels))


READERS: dict[str, Reader] = {
    "digits": lambda _, __: _digits(),
    "synthetic": lambda _, __: _synthetic(),
    "mnist": _idx,
    "fashion_mnist": _idx,
    "cifar100": lambda _, folder: _made("cifar100", *load_cifar100(folder)),
    "image_folder": _image_folder,
}
