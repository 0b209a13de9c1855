"""Data sets, kept as the uint8 arrays their publishers released.

digits and synthetic are in ``core.data.small``; MNIST and Fashion-MNIST are IDX files (``core.data.idx``), CIFAR-100 is a
binary archive (``core.data.cifar``). A folder of images is a list of files, decoded on demand (``core.data.image_folder``).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.data import small
from core.data.arrays import MAX_BYTES, NAMES, OwnArrays, read_arrays
from core.data.cifar import load_cifar100
from core.data.idx import load_idx
from core.data.image_folder import decode_all, find_images
from core.data.own_sets import made_dataset, made_tasks
from core.data.sequence import PartRows, part_rows, to_shape
from core.data.task_files import read_tasks
from core.errors import DataError, plural
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
    parts, part_digests: of a sequence, or of the tasks of a module.
    A network sees (pixel / scale - mean) / std, with mean and std per channel if there are three.
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
    part_digests: tuple[str, ...] = ()

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
    if isinstance(benchmark, BenchmarkSpec) and benchmark.has_own_tasks:
        return _own_tasks(benchmark, folder)
    if isinstance(benchmark, BenchmarkSpec) and benchmark.is_own:
        return _own(benchmark, folder)
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


def _own(benchmark: BenchmarkSpec, folder: Path | None) -> Dataset:
    """Return the user's own arrays, or what her function makes."""
    code = next(iter(benchmark.own_code), None)
    found = read_arrays(benchmark.dataset, folder) if code is None else made_dataset(code, folder)
    _check_settled(found.source, benchmark, num_classes=found.num_classes, shape=found.shape)
    return Dataset(
        name=benchmark.dataset,
        num_classes=found.num_classes,
        train_images=found.train_images,
        train_labels=found.train_labels,
        test_images=found.test_images,
        test_labels=found.test_labels,
        **_scales(own_scales(found.shape)),
    )


def _check_settled(source: str, benchmark: BenchmarkSpec, **found: Any) -> None:
    """Raise DataError if data are not what the sweep was made for."""
    for key, value in found.items():
        expected = getattr(benchmark, key)
        if expected is not None and value != expected:
            raise DataError(
                f"{source}: found {value} for benchmark.{key}, expected {expected}; use the data that the sweep was "
                "made for, or leave the key out"
            )


def _own_tasks(benchmark: BenchmarkSpec, folder: Path | None) -> Dataset:
    """Return the tasks that are in files, or that the user's function makes, one after the other."""
    if benchmark.kind == "files":
        source, tasks = benchmark.dataset, read_tasks(benchmark.dataset, folder, benchmark.num_tasks)
        most = benchmark.num_classes or 0  # later tasks may have fewer
    else:
        (code,) = benchmark.own_code
        source, tasks, most = str(code), made_tasks(code, folder), 0
    most = max(most, *(task.num_classes for task in tasks))
    _check_settled(source, benchmark, num_classes=most, shape=tasks[0].shape)
    if benchmark.num_tasks > len(tasks):
        raise DataError(
            f"{source}: found {plural(len(tasks), 'task')}, expected {benchmark.num_tasks}, which benchmark.num_tasks says"
        )
    scales = own_scales(tasks[0].shape)
    joined = _joined(benchmark.dataset, [_of_task(task, scales) for task in tasks], tasks[0].shape, scales)
    return _with_global_labels(joined, most) if benchmark.labels == "global" else joined


def _with_global_labels(dataset: Dataset, num_classes: int) -> Dataset:
    """Return a data set whose parts share their classes, numbered from 0 in each."""
    train_labels, test_labels = dataset.train_labels.copy(), dataset.test_labels.copy()
    for at in dataset.parts:
        train_labels[at.train] -= at.first_class
        test_labels[at.test] -= at.first_class
    parts = tuple(replace(at, first_class=0, num_classes=num_classes) for at in dataset.parts)
    return replace(
        dataset, num_classes=num_classes, parts=parts, train_labels=train_labels, test_labels=test_labels
    )


def _of_task(task: OwnArrays, scales: tuple[float, PerChannel, PerChannel]) -> Dataset:
    arrays = {key: getattr(task, key) for key in NAMES}
    return Dataset(name=task.source, num_classes=task.num_classes, **arrays, **_scales(scales))


def _sequence(benchmark: BenchmarkSpec, folder: Path | None) -> Dataset:
    parts = [_in_memory(load_dataset(part, folder)) for part in benchmark.part_benchmarks]
    return _joined(benchmark.dataset, parts, benchmark.image_shape, normalisation(benchmark))


def _joined(
    name: str, parts: Sequence[Dataset], shape: tuple[int, ...], scales: tuple[float, PerChannel, PerChannel]
) -> Dataset:
    """Return several data sets as one."""
    rows = part_rows([(len(p.train_labels), len(p.test_labels), p.num_classes) for p in parts])
    pairs = list(zip(parts, rows, strict=True))
    return Dataset(
        name=name,
        num_classes=sum(part.num_classes for part in parts),
        train_images=np.concatenate([to_shape(part.train_images, shape, part.scale) for part in parts]),
        train_labels=np.concatenate([part.train_labels + at.first_class for part, at in pairs]),
        test_images=np.concatenate([to_shape(part.test_images, shape, part.scale) for part in parts]),
        test_labels=np.concatenate([part.test_labels + at.first_class for part, at in pairs]),
        parts=rows,
        part_digests=tuple(part.digest() for part in parts),
        left_out=tuple(one for part in parts for one in part.left_out),
        **_scales(scales),
    )


def _in_memory(dataset: Dataset) -> Dataset:
    """Return a data set with its images decoded, for tasks that move pixels."""
    if not dataset.train_files:
        return dataset
    side, parts = dataset.image_shape[-1], (dataset.train_files, dataset.test_files)
    num_bytes = sum(map(len, parts)) * dataset.num_inputs
    if num_bytes > MAX_BYTES:
        raise DataError(
            f"{dataset.name}: its images take {num_bytes:,} bytes when decoded, expected at most {MAX_BYTES:,}; choose a "
            "smaller benchmark.image_size"
        )
    train, test = (decode_all(files, side) for files in parts)
    return replace(dataset, train_images=train, test_images=test, train_files=(), test_files=())


def _image_folder(benchmark: BenchmarkSpec | str, folder: Path | None) -> Dataset:
    assert isinstance(benchmark, BenchmarkSpec), "a folder has no data set's name"
    files = find_images(folder, benchmark.folder or "", benchmark.dataset_classes)
    none = np.empty((0, *benchmark.image_shape), dtype=np.uint8)
    found = Dataset(
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
    return found if benchmark.kind == "split" else _in_memory(found)


def normalisation(benchmark: BenchmarkSpec) -> tuple[float, PerChannel, PerChannel]:
    """Return (scale, mean, std): a network sees (pixel / scale - mean) / std."""
    if benchmark.is_own or benchmark.parts is not None:
        return OWN_COLOUR if benchmark.is_coloured else OWN_GREY
    return NORMALISATION[benchmark.dataset]


def own_scales(shape: tuple[int, ...]) -> tuple[float, PerChannel, PerChannel]:
    """Return (scale, mean, std) of the user's own images of ``shape``, in colour if it has three sides."""
    return OWN_COLOUR if len(shape) == 3 else OWN_GREY


def _normalised(name: str) -> dict[str, Any]:
    return _scales(NORMALISATION[name])


def _scales(values: tuple[float, PerChannel, PerChannel]) -> dict[str, Any]:
    return dict(zip(("scale", "mean", "std"), values, strict=True))


def _idx(benchmark: BenchmarkSpec | str, folder: Path | None) -> Dataset:
    name = benchmark if isinstance(benchmark, str) else benchmark.dataset
    train_images, train_labels, test_images, test_labels = load_idx(name, folder)
    return _made(name, (train_images, train_labels), (test_images, test_labels))


READERS: dict[str, Reader] = {
    "digits": lambda _, __: _made("digits", *small.digits()),
    "synthetic": lambda _, __: _made("synthetic", *small.synthetic()),
    "mnist": _idx,
    "fashion_mnist": _idx,
    "cifar100": lambda _, folder: _made("cifar100", *load_cifar100(folder)),
    "image_folder": _image_folder,
}
