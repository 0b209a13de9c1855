"""What the keys of a ``BenchmarkSpec`` may be: each function raises ConfigError. No numpy, no torch."""

import difflib
import math
from typing import Any

from core.errors import ConfigError
from core.plugins import plugins
from core.specs.base import MAX_TASKS, require
from core.specs.named import DATASETS
from core.specs.own_code import DATASETS as GROUP

MAX_SIDE = 4096
MAX_CLASSES = 1_000_000
ORDERS = ("file", "shuffled")
ORDER_FILES = (".txt", ".json")


def check_dataset(spec: Any) -> None:
    """Check the name of the data set."""
    if not spec.dataset:
        raise ConfigError("benchmark.dataset: missing; add it to the sweep file")
    if spec.is_own or spec.dataset in DATASETS:
        return
    names = [*DATASETS, *plugins(GROUP)]
    close = difflib.get_close_matches(spec.dataset, names, n=1)
    own = ", a path such as my.npz or my_arrays/, or package.file:name of your own function"
    hint = f" (did you mean {close[0]!r}?)" if close else own
    shown = ", ".join(map(repr, names[:-1]))
    raise ConfigError(f"benchmark.dataset: found {spec.dataset!r}, expected {shown} or {names[-1]!r}{hint}")


def check_images(spec: Any) -> None:
    """Check number and shape of the images and classes that a folder, or the user's own data, have."""
    _check_shape(spec)
    is_folder = spec.dataset == "image_folder"
    for key in () if is_folder else ("folder", "image_size"):
        found = getattr(spec, key)
        require(found is None, f"benchmark.{key}", found, "null: for dataset image_folder only")
    if is_folder:
        size = spec.image_size or 0
        require(bool(spec.folder), "benchmark.folder", spec.folder, "the name of a folder in the data folder")
        require(8 <= size <= MAX_SIDE, "benchmark.image_size", size, f"pixels from 8 to {MAX_SIDE}")
    elif not spec.is_own:
        expected = "null: for dataset image_folder only"
        require(spec.num_classes is None, "benchmark.num_classes", spec.num_classes, expected)
        return
    classes, where = spec.num_classes, "folder" if is_folder else "data"
    ok = (classes is None and spec.is_own) or (classes is not None and 2 <= classes <= MAX_CLASSES)
    require(ok, "benchmark.num_classes", classes, f"the number of classes in the {where}")


def _check_shape(spec: Any) -> None:
    shape = spec.shape
    require(shape is None or spec.is_own, "benchmark.shape", shape, "null: for your own data only")
    is_shape = shape is None or (
        (len(shape) == 2 or (len(shape) == 3 and shape[0] == 3))
        and all(1 <= side <= MAX_SIDE for side in shape[-2:])
    )
    expected = f"[height, width] or [3, height, width] of 1 to {MAX_SIDE} pixels"
    require(is_shape, "benchmark.shape", shape, expected)


def check_class_order(spec: Any) -> None:
    """Check a list of classes; a file's is checked once it is read."""
    order, key = spec.class_order, "benchmark.class_order"
    if isinstance(order, str):
        ok = order in ORDERS or order.endswith(ORDER_FILES)
        require(
            ok,
            key,
            order,
            f"'file', 'shuffled', a list of classes, or a path ending in {' or '.join(ORDER_FILES)}",
        )
    elif order is not None:
        twice = (
            next((one for one in order if order.count(one) > 1), None)
            if len(set(order)) < len(order)
            else None
        )
        require(twice is None, key, f"class {twice} twice", "each class once")
        wrong = next((one for one in order if not 0 <= one < _num_classes(spec)), None)
        require(
            wrong is None,
            key,
            f"class {wrong}",
            f"classes of {spec.dataset}, from 0 to {_num_classes(spec) - 1}",
        )
        require(bool(order), key, list(order), "at least one class")


def _num_classes(spec: Any) -> int:
    return spec.dataset_classes if spec.is_settled else MAX_CLASSES


def check_validation(spec: Any) -> None:
    """Check the images that are held out, and whether images may be augmented."""
    share = spec.validation
    if share is None:
        return
    require(0 <= share < 1, "benchmark.validation", share, "a fraction from 0 to below 1")
    ok = spec.test_on == "test" or share > 0
    require(ok, "benchmark.test_on", spec.test_on, "'test', or a benchmark.validation above 0")
    ok = not spec.augment or spec.is_coloured
    require(ok, "benchmark.augment", spec.augment, f"false for {spec.dataset}")


def check_num_tasks(spec: Any) -> None:
    """Check that the data set has as many tasks."""
    key, found = "benchmark.num_tasks", spec.num_tasks
    require(1 <= found <= MAX_TASKS, key, found, f"a number from 1 to {MAX_TASKS:,}")
    if spec.angle_step_deg is not None:
        step = spec.angle_step_deg
        require(0 < step < 360, "benchmark.angle_step_deg", step, "degrees between 0 and 360")
        most = math.floor(360 / step)
        require(found <= most, key, found, f"at most {most}: tasks repeat after a full turn")
    if spec.classes_per_task is not None and spec.is_settled:
        _check_split(spec, spec.classes_per_task)


def _check_split(spec: Any, per_task: int) -> None:
    listed = spec.ordered_classes
    whose = "benchmark.class_order" if isinstance(spec.class_order, tuple) else spec.dataset
    expected = f"a number from 1 to {listed}, the classes of {whose}"
    require(1 <= per_task <= listed, "benchmark.classes_per_task", per_task, expected)
    most = listed // per_task
    expected = f"at most {most}: {whose} has {listed} classes"
    require(spec.num_tasks <= most, "benchmark.num_tasks", spec.num_tasks, expected)
