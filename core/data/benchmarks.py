"""Benchmarks: a data set seen as a stream of tasks.

A task on flat images only selects rows (images) and pixels, so no transformed copy of the
data is ever made. Task inputs are ``image.flatten()[input_gather]``, normalised.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.data.datasets import Dataset
from core.seeding import stream
from core.specs.benchmark import BenchmarkSpec


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """One task's view of a data set.

    input_gather: int64 [D], index into the D flat pixels; D itself means a blank (zero) pixel.
    train_rows, test_rows: int64, indices of the images, test rows in file order. If ``test_on`` is
    ``validation``, test_rows are training images that train_rows leave out.
    classes: the data set's classes in the order of the task's local labels; None: labels are global.
    """

    input_gather: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    classes: NDArray[np.int64] | None = None


def task_view(spec: BenchmarkSpec, dataset: Dataset, task: int, *, seed: int) -> TaskView:
    """Return the view of ``task``, which depends on (spec, seed, task) and never on num_tasks."""
    if spec.parts is not None:
        return _view_in_part(spec, dataset, task, seed)
    if spec.has_own_tasks:
        return _view_of_own_task(spec, dataset, task)
    gather = input_gather(spec, dataset.image_shape, task, seed=seed)
    if spec.kind != "split":
        train_rows, test_rows = np.arange(len(dataset.train_labels)), np.arange(len(dataset.test_labels))
        return TaskView(input_gather=gather, train_rows=train_rows, test_rows=test_rows)
    classes = task_classes(spec, task, seed=seed)
    train_rows = np.flatnonzero(np.isin(dataset.train_labels, classes))
    train_rows, held_out = _without_validation(spec, train_rows, task, seed)
    test_rows = np.flatnonzero(np.isin(dataset.test_labels, classes))
    return TaskView(
        input_gather=gather,
        train_rows=train_rows,
        test_rows=held_out if spec.test_on == "validation" else test_rows,
        classes=classes if spec.labels == "local" else None,
    )


def _view_in_part(spec: BenchmarkSpec, dataset: Dataset, task: int, seed: int) -> TaskView:
    number, task_there = spec.part_of(task)
    part, rows = spec.part_benchmarks[number], dataset.parts[number]
    of_part = replace(
        dataset,
        train_labels=dataset.train_labels[rows.train] - rows.first_class,
        test_labels=dataset.test_labels[rows.test] - rows.first_class,
        train_images=dataset.train_images[:0].reshape(0, *dataset.image_shape[-2:]),
    )
    view = task_view(part, of_part, task_there, seed=seed)
    classes = np.arange(part.dataset_classes) if view.classes is None else view.classes
    return TaskView(
        input_gather=input_gather(spec, dataset.image_shape, task, seed=seed),
        train_rows=view.train_rows + rows.train.start,
        test_rows=view.test_rows + rows.test.start,
        classes=classes + rows.first_class,
    )


def _view_of_own_task(spec: BenchmarkSpec, dataset: Dataset, task: int) -> TaskView:
    rows = dataset.parts[task]
    return TaskView(
        input_gather=np.arange(dataset.num_inputs),
        train_rows=np.arange(rows.train.start, rows.train.stop),
        test_rows=np.arange(rows.test.start, rows.test.stop),
        classes=np.arange(rows.num_classes) + rows.first_class if spec.labels == "local" else None,
    )


def task_classes(spec: BenchmarkSpec, task: int, *, seed: int) -> NDArray[np.int64]:
    """Return the data set's classes that make up a ``split`` task, int64 [classes_per_task]."""
    assert spec.classes_per_task is not None, "split fills it"
    listed = isinstance(spec.class_order, tuple)
    order = np.array(spec.class_order) if listed else np.arange(spec.dataset_classes)
    if spec.class_order == "shuffled":
        order = stream(seed, "classes").permutation(order)
    return order[task * spec.classes_per_task : (task + 1) * spec.classes_per_task]


def _without_validation(
    spec: BenchmarkSpec, rows: NDArray[np.int64], task: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a task's training images into those to train on and those held out, both in file order."""
    num_held_out = round((spec.validation or 0) * len(rows))
    drawn = stream(seed, "validation", task).permutation(rows) if num_held_out else rows
    return np.sort(drawn[num_held_out:]), np.sort(drawn[:num_held_out])


def input_gather(
    spec: BenchmarkSpec, image_shape: tuple[int, ...], task: int, *, seed: int
) -> NDArray[np.int64]:
    """Return the pixel index of ``task``, int64 [D] with D = height * width, times 3 for colour."""
    if spec.parts is not None:
        number, task_there = spec.part_of(task)
        plane = input_gather(spec.part_benchmarks[number], image_shape[-2:], task_there, seed=seed)
        return _in_colour(plane, math.prod(image_shape[:-2]))
    if spec.kind == "split" or spec.has_own_tasks:
        return np.arange(math.prod(image_shape))
    if len(image_shape) > 2:
        return _in_colour(input_gather(spec, image_shape[-2:], task, seed=seed), image_shape[0])
    num_pixels = math.prod(image_shape)
    if spec.kind == "rotated":
        assert spec.angle_step_deg is not None
        height, width = image_shape
        return rotation_gather((height, width), task * spec.angle_step_deg)
    if spec.permutation == "original":
        legacy = np.random.RandomState((task + seed) % 2**32)
        return legacy.permutation(num_pixels).astype(np.int64)
    return stream(seed, "permutation", task).permutation(num_pixels)


def _in_colour(gather_D: NDArray[np.int64], channels: int) -> NDArray[np.int64]:
    """Return the pixel index of one plane for all channels: a pixel's colours stay together."""
    num = len(gather_D)
    planes = [np.where(gather_D < num, gather_D + c * num, channels * num) for c in range(channels)]
    return np.concatenate(planes)


def rotation_gather(image_shape: tuple[int, int], angle_deg: float) -> NDArray[np.int64]:
    """Return a nearest-neighbour rotation, counter-clockwise about the centre, as an index.

    int64 [D]; pixels from outside the image get D (blank).
    """
    height, width = image_shape
    row, column = np.mgrid[:height, :width].astype(np.float64)
    y, x = (height - 1) / 2 - row, column - (width - 1) / 2
    angle = math.radians(angle_deg)
    source_x = math.cos(angle) * x + math.sin(angle) * y
    source_y = -math.sin(angle) * x + math.cos(angle) * y
    # The small shift rounds exact halves the same way, whatever the rounding of sin and cos.
    source_row = np.floor((height - 1) / 2 - source_y + 0.5 + 1e-9).astype(np.int64)
    source_column = np.floor(source_x + (width - 1) / 2 + 0.5 + 1e-9).astype(np.int64)
    inside = (source_row >= 0) & (source_row < height) & (source_column >= 0) & (source_column < width)
    return np.where(inside, source_row * width + source_column, height * width).ravel()
