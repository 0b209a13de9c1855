"""The specification of a benchmark: a data set, cut into a stream of tasks. No numpy, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar, Literal

from core.errors import ConfigError
from core.specs.base import MAX_TASKS, Spec, fill_by_kind, require
from core.specs.benchmark_checks import (
    MAX_SIDE,
    ORDERS,
    check_class_order,
    check_dataset,
    check_images,
    check_num_tasks,
    check_validation,
)
from core.specs.named import COLOURED, IMAGE_SHAPES, NUM_CLASSES, code_of_dataset, is_own_dataset
from core.specs.own_code import TASKS, OwnCode, code_path
from core.specs.part import PartSpec

DEFAULT_IMAGE_SIZE = 224
# Keys that say how tasks are made from one data set.
OF_ONE_DATASET = (
    "angle_step_deg",
    "classes_per_task",
    "permutation",
    "class_order",
    "augment",
    "validation",
    "test_on",
    "folder",
)


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec(Spec):
    """A stream of tasks made from one data set, or from several.

    kind: each task permutes the pixels (``permuted``), rotates the images (``rotated``), or has its own
        classes (``split``); a ``sequence`` has the tasks of its first part, then those of the second, and so on;
        the tasks of a ``module`` are made by your own function; of ``files``, each .npz file of a folder is a task,
        in the order of their names, and more may follow.
    dataset: ``digits`` comes with scikit-learn, and ``synthetic`` is generated; ``mnist``, ``fashion_mnist``
        and ``cifar100`` are looked for in ``data_dir``, and otherwise downloaded; ``image_folder`` is a folder of
        images; a path, such as ``my.npz`` or ``my_arrays/``, names your own arrays, looked for in ``data_dir``
        and then in the current folder; ``package.file:name`` is your own function that makes the data, and so may
        be a name that an installed package registers as entry point ``supsup.datasets``.
    num_tasks: number of tasks; not part of the run's identity. 0: all of a ``sequence``.
    parts: data sets and their tasks, in order (``sequence``); labels are local in each task.
    import_path: ``package.file:name`` of your own function that makes the tasks (``module``).
    angle_step_deg: task t is rotated by t times this angle (``rotated``; default 10).
    permutation: ``named`` derives each permutation from (seed, task); ``original`` is the rule of the
        original code, RandomState(seed + task), under which neighbouring seeds share nearly all tasks
        (``permuted``; default ``named``).
    classes_per_task: classes of each task (``split``; default 2; for cifar100 5, for an image_folder 10).
    class_order: order of the classes, that of the ``file``, ``shuffled`` by the seed, your own list, or a path
        ending in ``.txt`` or ``.json`` of a file that holds one (``split``; default ``shuffled`` for natural images).
    labels: ``global`` labels are those of the data set; ``local`` ones are 0 .. classes_per_task - 1 in
        each task (``split``; default ``local`` for natural images).
    augment: whether to crop and flip training images at random (``split``; default true for natural images).
    validation: fraction of each task's training images held out from training (``split``).
    test_on: whether to test on the ``test`` images or, so that settings are chosen without the test
        images, on the ``validation`` images (``split``).
    folder: folder of the data set ``image_folder``, with images in ``<data>/<folder>/train/<class>/...`` and
        ``.../val/...``.
    num_classes: number of classes of an image_folder; of your own data, found in them; the most in a task of a
        ``module`` or of ``files``.
    shape: height and width of your own data, or 3, height and width in colour; found in them.
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

    kind: Literal["permuted", "rotated", "split", "sequence", "module", "files"]
    dataset: str = ""
    num_tasks: int = 0
    parts: tuple[PartSpec, ...] | None = None
    import_path: str | None = None
    angle_step_deg: float | None = None
    classes_per_task: int | None = None
    permutation: Literal["named", "original"] | None = None
    class_order: str | tuple[int, ...] | None = None
    labels: Literal["global", "local"] | None = None
    augment: bool | None = None
    validation: float | None = None
    test_on: Literal["test", "validation"] | None = None
    folder: str | None = None
    num_classes: int | None = None
    image_size: int | None = None
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        ok = self.kind == "module" or self.import_path is None
        require(ok, "benchmark.import_path", self.import_path, "null: for kind 'module' only")
        if self.kind == "sequence":
            self._fill_sequence()
            return
        require(self.parts is None, "benchmark.parts", "keys", "null: for kind 'sequence' only")
        if self.kind == "module":
            self._fill_module()
            return
        if self.kind == "files":
            self._fill_files()
            return
        check_dataset(self)
        coloured = self.is_coloured
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
        if self.dataset == "image_folder" and self.image_size is None:
            object.__setattr__(self, "image_size", DEFAULT_IMAGE_SIZE)
        check_images(self)
        check_class_order(self)
        check_validation(self)
        check_num_tasks(self)

    def _fill_sequence(self) -> None:
        require(
            bool(self.parts), "benchmark.parts", self.parts, "a list of parts, each with a kind and a dataset"
        )
        benchmarks = self.part_benchmarks
        name = " + ".join(one.dataset for one in benchmarks)
        require(self.dataset in ("", name), "benchmark.dataset", self.dataset, "none beside benchmark.parts")
        object.__setattr__(self, "dataset", name)
        self._fill_own_tasks(unset=(*OF_ONE_DATASET, "num_classes", "shape"))
        if self.is_settled:
            self._fill_tasks(benchmarks)

    def _fill_module(self) -> None:
        ok = code_path(self.import_path or "", TASKS) is not None
        require(
            ok, "benchmark.import_path", self.import_path, "package.file:name of a function that makes tasks"
        )
        found = self.dataset
        require(
            found in ("", self.import_path), "benchmark.dataset", found, "none beside benchmark.import_path"
        )
        object.__setattr__(self, "dataset", self.import_path)
        self._fill_tasks_in_data("local")

    def _fill_files(self) -> None:
        is_folder = self.dataset.endswith("/")
        require(
            is_folder,
            "benchmark.dataset",
            self.dataset,
            "a folder of .npz files, written with a '/' at its end",
        )
        self._fill_tasks_in_data("global")

    def _fill_tasks_in_data(self, labels: Literal["global", "local"]) -> None:
        """Fill in the keys of tasks that are data sets of their own; refuse those of others."""
        self._fill_own_tasks(unset=(*OF_ONE_DATASET, "image_size"), labels=labels)
        check_images(self)
        require(
            0 <= self.num_tasks <= MAX_TASKS, "benchmark.num_tasks", self.num_tasks, f"at most {MAX_TASKS:,}"
        )

    def _fill_own_tasks(self, unset: tuple[str, ...], labels: Literal["global", "local"] = "local") -> None:
        """Fill in the keys of tasks that are cut from no single data set; refuse those of one."""
        for key in unset:
            found = getattr(self, key)
            require(found is None, f"benchmark.{key}", found, f"null for {self.kind!r}")
        require(
            self.labels in (None, labels), "benchmark.labels", self.labels, f"{labels!r} for {self.kind!r}"
        )
        object.__setattr__(self, "labels", labels)

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

    @property
    def is_own(self) -> bool:
        """Whether the data set is the user's own arrays, or made by her own code."""
        return self.has_own_tasks or (self.kind != "sequence" and is_own_dataset(self.dataset))

    @property
    def has_own_tasks(self) -> bool:
        """Whether each task is a data set of the user's own."""
        return self.kind in ("module", "files")

    @property
    def own_code(self) -> tuple[OwnCode, ...]:
        """The user's own code that makes the data."""
        if self.parts is not None:
            pairs = enumerate(self.part_benchmarks)
            return tuple(
                replace(code, key=in_part(code.key, number))
                for number, part in pairs
                for code in part.own_code
            )
        tasks = code_path(self.import_path, TASKS)
        if tasks is not None:
            return (OwnCode("benchmark.import_path", tasks),)
        path = code_of_dataset(self.dataset)
        return () if path is None else (OwnCode("benchmark.dataset", path),)

    @property
    def is_settled(self) -> bool:
        """Whether classes, their order, shape and tasks are known; those of the user's own data are found in them."""
        if self.parts is not None:
            return all(part.is_settled for part in self.part_benchmarks)
        if isinstance(self.class_order, str) and self.class_order not in ORDERS:
            return False
        known = self.num_classes is not None and self.shape is not None
        return not self.is_own or (known and (not self.has_own_tasks or self.num_tasks > 0))

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
    def ordered_classes(self) -> int:
        """Number of classes that tasks are made of: all of the data set, or those of a list."""
        return len(self.class_order) if isinstance(self.class_order, tuple) else self.dataset_classes

    @property
    def real_classes(self) -> int:
        """l, the number of real classes, which are the network's first outputs; of a sequence, the most of a task."""
        if self.parts is not None:
            return max(part.real_classes for part in self.part_benchmarks)
        if self.has_own_tasks:
            assert self.num_classes is not None, "found in the data"
            return self.num_classes
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


def in_part(text: str, number: int) -> str:
    """Return a text about keys of a benchmark as one about a part of a sequence."""
    return text.replace("benchmark.", f"benchmark.parts[{number}].")


def _named(number: int, part: PartSpec) -> BenchmarkSpec:
    try:
        return _of_part(part)
    except ConfigError as error:
        raise ConfigError(in_part(str(error), number)) from error


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
        return replace(one, num_tasks=one.ordered_classes // one.classes_per_task)
    wrong = [key for key in ("classes_per_task", "class_order") if keys[key] is not None]
    require(not wrong, f"benchmark.{', '.join(wrong)}", "a value", "null for a 'whole' data set")
    require(part.num_tasks in (None, 1), "benchmark.num_tasks", part.num_tasks, "1 for a 'whole' data set")
    one = BenchmarkSpec(**{**split, "num_tasks": 1, "class_order": "file", "classes_per_task": 1})
    return replace(one, classes_per_task=one.dataset_classes) if one.is_settled else one
