"""The specification of a benchmark: a data set, cut into a stream of tasks. No numpy, no torch."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from core.specs.base import MAX_TASKS, Spec, fill_by_kind, require

NUM_CLASSES = {"digits": 10, "mnist": 10, "fashion_mnist": 10, "synthetic": 4, "cifar100": 100}
# Height and width, or channels, height and width.
IMAGE_SHAPES: dict[str, tuple[int, ...]] = {
    "digits": (8, 8),
    "mnist": (28, 28),
    "fashion_mnist": (28, 28),
    "synthetic": (6, 6),
    "cifar100": (3, 32, 32),
}
COLOURED = ("cifar100", "image_folder")  # natural images: by default shuffled, local labels, augmented
DATASETS = (*NUM_CLASSES, "image_folder")  # those with a name; others are paths of arrays
DEFAULT_IMAGE_SIZE = 224
MAX_SIDE = 4096
MAX_CLASSES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec(Spec):
    """A stream of tasks made from one data set.

    kind: each task permutes the pixels (``permuted``), rotates the images (``rotated``), or has its own
        classes (``split``).
    dataset: ``digits`` comes with scikit-learn, and ``synthetic`` is generated; ``mnist``, ``fashion_mnist``
        and ``cifar100`` are looked for in ``data_dir``, and otherwise downloaded; ``image_folder`` is a folder of
        images; a path, such as ``my.npz`` or ``my_arrays/``, names your own arrays, looked for in ``data_dir``
        and then in the current folder.
    num_tasks: number of tasks; not part of the run's identity.
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
    image_size: side of the images of an image_folder, in pixels (default 224).
    """

    LATER_KEYS: ClassVar[Mapping[str, object]] = {
        "class_order": "file",
        "labels": "global",
        "augment": False,
        "validation": 0.0,
        "test_on": "test",
    }

    kind: Literal["permuted", "rotated", "split"]
    dataset: str
    num_tasks: int
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

    def _check_dataset(self) -> None:
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
        return self.dataset.endswith(".npz") or "/" in self.dataset

    @property
    def is_settled(self) -> bool:
        """Whether classes and shape are known; those of the user's own arrays are found in them."""
        return not self.is_own or (self.num_classes is not None and self.shape is not None)

    @property
    def is_coloured(self) -> bool:
        """Whether the images are natural ones, in colour."""
        return self.dataset in COLOURED or len(self.shape or ()) == 3

    @property
    def dataset_classes(self) -> int:
        """Number of classes in the whole data set."""
        return self.num_classes if self.num_classes is not None else NUM_CLASSES[self.dataset]

    @property
    def real_classes(self) -> int:
        """l, the number of real classes, which are the network's first outputs."""
        if self.labels == "local":
            assert self.classes_per_task is not None, "split fills it"
            return self.classes_per_task
        return self.dataset_classes

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height and width, or channels, height and width."""
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
