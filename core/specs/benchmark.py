"""The specification of a benchmark: a data set, cut into a stream of tasks. No numpy, no torch."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar, Literal

from core.errors import ConfigError
from core.specs.base import MAX_TASKS, Spec, fill_by_kind, require
from core.specs.named import COLOURED, DATASETS, IMAGE_SHAPES, NUM_CLASSES
from core.specs.part import PartSpec

DEFAULT_IMAGE_SIZE = 224
MAX_SIDE = 4096
MAX_CLASSES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec(Spec):
    """A stream of tasks made from one data set, or from several.

    kind: each task permutes the pixels (``permuted``), rotates the images (``rotated``), or has its own
        classes (``split``); a ``sequence`` has the tasks of its first part, then those of the second, and so on.
    dataset: ``digits`` comes with scikit-learn, and ``synthetic`` is generated; ``mnist``, ``fashion_mnist``
        and ``cifar100`` are looked for in ``data_dir``, and otherwise downloaded; ``image_folder`` is a folder of
        images; a path, such as ``my.npz`` or ``my_arrays/``, names your own arrays, looked for in ``data_dir``
        and then in the current folder.
    num_tasks: number of tasks; not part of the run's identity. 0: all of a ``sequence``.
    parts: data sets and their tasks, in order (``sequence``); labels are local in each task.
    angle_step_deg: task t is rotated by t times this angle (``rotated``; default 10).
    permutation: ``named`` derives each permutation from (seed, task); ``original`` is the rule of the
        original code, RandomState(seed + task), under which neighbouring seeds share nearly all tasks
        (``permuted``; default ``named``).
    classes_per_task: classes of each task (``split``; default 2; for cifar100 5, for an image_folder 10).
    class_order: order of the classes, that of the ``file`` or ``shuffled`` by the seed (``split``; default
        ``shuffled`` for natural images).
    labels: ``global`` labels are those of the data set; ``local`` ones are 0 .. classes_per_task - 1 in
        each task (``split``; default ``local`` for natural images).
    augment: whether to crop and flip training images at random (``split``; default true for natural images).
    validation: fraction of each task's training images held out from training (``split``).
    test_on: whether to test on the ``test`` images or, so that settings are chosen without the test
        images, on the ``validation`` images (``split``).
    folder: folder of the data set ``image_folder``, with images in ``<data>/<folder>/train/<class>/...`` and
        ``.../val/...``.
    num_classes: number of classes of an image_folder; of your own arrays, found in them.
    shape: height and width of your own arrays, or 3, height and width in colour; found in them.
    image_size: side of the images of an image_folder, in pixels (default 224); of a ``sequence``, whose smaller
        images are centred on a blank square (default: the longest side of all).
    """

    LATER_KEYS: ClassVar[Mapping[str, object]] = {
        "class_order": "file",
        "labels": "global",
        "augment": False,
        "validation": 0.0,
        "test_on": "test",
    }

    kind: Literal["permuted", "rotated", "split", "sequence"]
    dataset: str = ""
    num_tasks: int = 0
    parts: tuple[PartSpec, ...] | None = None
    angle_step_deg: float | None = None
    classes_per_task: int | None = None
    permutation: Literal["named", "original"] | None = None
    class_order: Literal["file", "shuffled"] | None = None
    labels: Literal["global", "local"] | None = None
    augment: bool | None = None
    validation: float | None = None
    test_on: Literal["test", "validation"] | None = None
    folder: str | None = None
    num_classes: int | None = None
    image_size: int | None = None
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind == "sequence":
            self._fill_sequence()
            return
        require(self.parts is None, "benchmark.parts", "keys", "null: for kind 'sequence' only")
        self._check_dataset()
        coloured = self.is_coloured
        require(
            not coloured or self.kind == "split", "benchmark.kind", self.kind, f"'split' for {self.dataset}"
        )
        per_task = {"cifar100": 5, "image_folder": 10}.get(self.dataset, 2)
        fill_by_kind(
            self,
            "benchmark",
            {
                "permuted": {"permutation": "named"},
                "rotated": {"angle_step_deg": 10.0},
                "split": {
                    "classes_per_task": per_task,
                    "class_order": "shuffled" if coloured else "file",
                    "labels": "local" if coloured else "global",
                    "augment": coloured,
                    "validation": 0.0,
                    "test_on": "test",
                },
            },
        )
        self._check_folder()
        self._check_validation()
        self._check_num_tasks()

    def _fill_sequence(self) -> None:
        require(
            bool(self.parts), "benchmark.parts", self.parts, "a list of parts, each with a kind and a dataset"
        )
        wrong = [part.dataset for part in self.parts or () if part.dataset == "image_folder"]
        require(not wrong, "benchmark.parts", "image_folder", "another dataset: arrays in memory")
        benchmarks = self.part_benchmarks
        name = " + ".join(one.dataset for one in benchmarks)
        require(self.dataset in ("", name), "benchmark.dataset", self.dataset, "none beside benchmark.parts")
        object.__setattr__(self, "dataset", name)
        unset = ("angle_step_deg", "classes_per_task", "permutation", "class_order", "augment", "validation")
        for key in (*unset, "test_on", "folder", "num_classes", "shape"):
            require(getattr(self, key) is None, f"benchmark.{key}", getattr(self, key), "null for 'sequence'")
        require(self.labels in (None, "local"), "benchmark.labels", self.labels, "'local' for 'sequence'")
        object.__setattr__(self, "labels", "local")
        if self.is_settled:
            self._fill_tasks(benchmarks)

    def _fill_tasks(self, benchmarks: tuple["BenchmarkSpec", ...]) -> None:
        """Fill in the number of tasks and the size of images, once all of the parts are known."""
        num_tasks = sum(one.num_tasks for one in benchmarks)
        found = self.num_tasks
        require(
            0 <= found <= num_tasks, "benchmark.num_tasks", found, f"at most {num_tasks}, those of the parts"
        )
        object.__setattr__(self, "num_tasks", found or num_tasks)
        longest = max(side for one in benchmarks for side in one.image_shape[-2:])
        size = longest if self.image_size is None else self.image_size
        expected = f"pixels from {longest}, the longest side of a part's images, to {MAX_SIDE}"
        require(longest <= size <= MAX_SIDE, "benchmark.image_size", size, expected)
        object.__setattr__(self, "image_size", size)

    @cached_property
    def part_benchmarks(self) -> tuple["BenchmarkSpec", ...]:
        """The parts of a sequence as benchmarks of their own."""
        return tuple(_named(number, part) for number, part in enumerate(self.parts or ()))

    def part_of(self, task: int) -> tuple[int, int]:
        """Return the number of the part that a task of a sequence is in, and the number of the task there."""
        for number, part in enumerate(self.part_benchmarks):
            if task < part.num_tasks:
                return number, task
            task -= part.num_tasks
        raise ValueError(f"task {task} is beyond the last part")

    def _check_dataset(self) -> None:
        if not self.dataset:
            raise ConfigError("benchmark.dataset: missing; add it to the sweep file")
        found, names = self.dataset, ", ".join(map(repr, DATASETS[:-1]))
        close = difflib.get_close_matches(found, DATASETS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ", or a path such as my.npz or my_arrays/"
        ok = self.is_own or found in DATASETS
        require(ok, "benchmark.dataset", found, f"{names} or {DATASETS[-1]!r}{hint}")
        shape = self.shape
        require(shape is None or self.is_own, "benchmark.shape", shape, "null: for your own arrays only")
        ok = shape is None or (
            (len(shape) == 2 or (len(shape) == 3 and shape[0] == 3))
            and all(1 <= side <= MAX_SIDE for side in shape[-2:])
        )
        require(
            ok, "benchmark.shape", shape, f"[height, width] or [3, height, width] of 1 to {MAX_SIDE} pixels"
        )

    def _check_classes(self) -> None:
        classes, where = self.num_classes, "arrays" if self.is_own else "folder"
        ok = (classes is None and self.is_own) or (classes is not None and 2 <= classes <= MAX_CLASSES)
        require(ok, "benchmark.num_classes", classes, f"the number of classes in the {where}")

    def _check_folder(self) -> None:
        if self.dataset != "image_folder":
            keys = ("folder", "image_size") if self.is_own else ("folder", "num_classes", "image_size")
            for key in keys:
                found = getattr(self, key)
                require(found is None, f"benchmark.{key}", found, "null: for dataset image_folder only")
            if self.is_own:
                self._check_classes()
            return
        require(bool(self.folder), "benchmark.folder", self.folder, "the name of a folder in the data folder")
        self._check_classes()
        if self.image_size is None:
            object.__setattr__(self, "image_size", DEFAULT_IMAGE_SIZE)
        size = self.image_size or 0
        require(8 <= size <= MAX_SIDE, "benchmark.image_size", size, f"pixels from 8 to {MAX_SIDE}")

    def _check_validation(self) -> None:
        share = self.validation
        if share is None:
            return
        require(0 <= share < 1, "benchmark.validation", share, "a fraction from 0 to below 1")
        ok = self.test_on == "test" or share > 0
        require(ok, "benchmark.test_on", self.test_on, "'test', or a benchmark.validation above 0")
        ok = not self.augment or self.is_coloured
        require(ok, "benchmark.augment", self.augment, f"false for {self.dataset}")

    def _check_num_tasks(self) -> None:
        key, found = "benchmark.num_tasks", self.num_tasks
        require(1 <= found <= MAX_TASKS, key, found, f"a number from 1 to {MAX_TASKS:,}")
        if self.angle_step_deg is not None:
            step = self.angle_step_deg
            require(0 < step < 360, "benchmark.angle_step_deg", step, "degrees between 0 and 360")
            most = math.floor(360 / step)
            require(found <= most, key, found, f"at most {most}: tasks repeat after a full turn")
        if self.classes_per_task is not None and self.is_settled:
            per_task, classes = self.classes_per_task, self.dataset_classes
            require(
                1 <= per_task <= classes,
                "benchmark.classes_per_task",
                per_task,
                f"a number from 1 to {classes}, the classes of {self.dataset}",
            )
            most = classes // per_task
            require(found <= most, key, found, f"at most {most}: {self.dataset} has {classes} classes")

    @property
    def is_own(self) -> bool:
        """Whether the data set is the path of the user's own arrays."""
        return self.kind != "sequence" and (self.dataset.endswith(".npz") or "/" in self.dataset)

    @property
    def is_settled(self) -> bool:
        """Whether classes and shape are known; those of the user's own arrays are found in them."""
        if self.parts is not None:
            return all(part.is_settled for part in self.part_benchmarks)
        return not self.is_own or (self.num_classes is not None and self.shape is not None)

    @property
    def is_coloured(self) -> bool:
        """Whether the images are natural ones, in colour."""
        if self.parts is not None:
            return any(part.is_coloured for part in self.part_benchmarks)
        return self.dataset in COLOURED or len(self.shape or ()) == 3

    @property
    def dataset_classes(self) -> int:
        """Number of classes in the whole data set, or in all of a sequence."""
        if self.parts is not None:
            return sum(part.dataset_classes for part in self.part_benchmarks)
        return self.num_classes if self.num_classes is not None else NUM_CLASSES[self.dataset]

    @property
    def real_classes(self) -> int:
        """l, the number of real classes, which are the network's first outputs; of a sequence, the most of a task."""
        if self.parts is not None:
            return max(part.real_classes for part in self.part_benchmarks)
        if self.labels == "local":
            assert self.classes_per_task is not None, "split fills it"
            return self.classes_per_task
        return self.dataset_classes

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height and width, or channels, height and width."""
        if self.image_size is not None and self.parts is not None and not self.is_coloured:
            return (self.image_size, self.image_size)
        if self.image_size is not None:
            return (3, self.image_size, self.image_size)
        if self.shape is not None:
            return self.shape
        return IMAGE_SHAPES[self.dataset]

    @property
    def channels_first(self) -> tuple[int, int, int]:
        """Channels (1 for grey), height, width."""
        *channels, height, width = self.image_shape
        return (channels[0] if channels else 1, height, width)


def _named(number: int, part: PartSpec) -> BenchmarkSpec:
    try:
        return _of_part(part)
    except ConfigError as error:
        raise ConfigError(str(error).replace("benchmark.", f"benchmark.parts[{number}].")) from error


def _of_part(part: PartSpec) -> BenchmarkSpec:
    """Return a part of a sequence as a benchmark of its own, in which labels are local and images stay as they are."""
    keys = {f.name: getattr(part, f.name) for f in fields(part) if f.name not in ("kind", "num_tasks")}
    if part.kind in ("permuted", "rotated"):
        return BenchmarkSpec(kind=part.kind, num_tasks=part.num_tasks or 0, **keys)
    split = {**keys, "kind": "split", "labels": "local", "augment": False}
    if part.kind == "split":
        one = BenchmarkSpec(**{**split, "num_tasks": part.num_tasks or 1})
        if part.num_tasks is not None or not one.is_settled:
            return one
        assert one.classes_per_task is not None, "split fills it"
        return replace(one, num_tasks=one.dataset_classes // one.classes_per_task)
    wrong = [key for key in ("classes_per_task", "class_order") if keys[key] is not None]
    require(not wrong, f"benchmark.{', '.join(wrong)}", "a value", "null for a 'whole' data set")
    require(part.num_tasks in (None, 1), "benchmark.num_tasks", part.num_tasks, "1 for a 'whole' data set")
    one = BenchmarkSpec(**{**split, "num_tasks": 1, "class_order": "file", "classes_per_task": 1})
    return replace(one, classes_per_task=one.dataset_classes) if one.is_settled else one
