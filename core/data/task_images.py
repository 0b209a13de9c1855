"""Test images and labels as a task sees them: the input of task inference."""

import numpy as np
from numpy.typing import NDArray

from core.data.benchmarks import TaskView, task_view
from core.data.datasets import Dataset
from core.data.image_folder import decode_test
from core.specs.benchmark import BenchmarkSpec


def task_images(
    spec: BenchmarkSpec, dataset: Dataset, task: int, *, seed: int, num: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the first ``num`` test images of a task, by default all, uint8 [N, H, W] or [N, 3, H, W], and their labels.

    Pixels are moved (permuted, rotated) but not normalised; labels int64 [N] are those that the task's network gives.
    """
    view, is_validation = task_view(spec, dataset, task, seed=seed), spec.test_on == "validation"
    rows = view.test_rows[:num]
    labels = (dataset.train_labels if is_validation else dataset.test_labels)[rows]
    return _seen(view, dataset, rows, is_validation=is_validation), _own_labels(view, labels)


def _own_labels(view: TaskView, labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the task's own numbers of classes."""
    if view.classes is None:
        return labels_N
    order = np.argsort(view.classes)
    return order[np.searchsorted(view.classes, labels_N, sorter=order)]


def _seen(
    view: TaskView, dataset: Dataset, rows: NDArray[np.int64], *, is_validation: bool
) -> NDArray[np.uint8]:
    files = dataset.train_files if is_validation else dataset.test_files
    if files:
        return np.stack([decode_test(files[row], dataset.image_shape[-1]) for row in rows])
    images = (dataset.train_images if is_validation else dataset.test_images)[rows].reshape(len(rows), -1)
    with_blank = np.pad(images, ((0, 0), (0, 1)))  # the pixel that a rotation takes from outside
    return with_blank[:, view.input_gather].reshape(len(rows), *dataset.image_shape)
