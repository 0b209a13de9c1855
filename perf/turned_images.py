"""The images of a benchmark, each turned in several ways, as arrays of a data set of your own.

Class c of a task turned r times by 90 degrees is class c + r * l there, with l real classes. Crops and flips of
training images come before the rotation: a flip after it would make 90 degrees look like 270.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.batches.images import NUM_CROPS, crop_and_flip, task_labels
from core.batches.problem import Problem
from core.data.benchmarks import task_classes
from core.seeding import stream


def class_order(problem: Problem, rotations: int) -> list[int]:
    """Return the classes of the arrays in the order of the tasks."""
    spec, benchmark = problem.spec, problem.spec.benchmark
    turns, order = range(rotations), []
    for task in range(benchmark.num_tasks):
        if benchmark.labels == "local":
            first, num = _first_class(problem, task, rotations), benchmark.real_classes
            order += [first + number for number in range(rotations * num)]
        else:
            classes = task_classes(benchmark, task, seed=spec.seed)
            order += [int(one) + r * benchmark.real_classes for r in turns for one in classes]
    return order


def turned_arrays(problem: Problem, rotations: int, num_crops: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a data set in which all images of all tasks are turned.

    num_crops: of each training image, if the benchmark augments images.
    """
    parts: dict[str, list[NDArray[Any]]] = {"x_train": [], "y_train": [], "x_test": [], "y_test": []}
    for task in range(problem.spec.benchmark.num_tasks):
        view, first = problem.view(task), _first_class(problem, task, rotations)
        for part, rows in (("train", view.train_rows), ("test", view.test_rows)):
            images = getattr(problem.dataset, f"{part}_images")[rows]
            labels = task_labels(view, getattr(problem, part), torch.from_numpy(rows)).numpy()
            if part == "train" and problem.spec.benchmark.augment:
                images, labels = cropped(problem, task, images, num_crops), np.tile(labels, num_crops)
            for r in range(rotations):
                parts[f"x_{part}"].append(np.rot90(images, r, axes=(-2, -1)))
                parts[f"y_{part}"].append(labels + first + r * problem.spec.benchmark.real_classes)
    found = {key: np.concatenate(arrays) for key, arrays in parts.items()}
    coloured = problem.spec.benchmark.is_coloured
    return {
        key: np.moveaxis(value, 1, -1) if coloured and key.startswith("x") else value
        for key, value in found.items()
    }


def cropped(problem: Problem, task: int, images: NDArray[np.uint8], num_crops: int) -> NDArray[np.uint8]:
    """Return a number of random crops and flips of each image, uint8 [num_crops * N, C, H, W]."""
    draw = stream(problem.spec.seed, "augmentation", task)
    codes = draw.integers(0, 2 * NUM_CROPS, size=(num_crops, len(images)), dtype=np.uint8)
    x_NCHW = torch.from_numpy(images)
    crops = [crop_and_flip(x_NCHW, torch.from_numpy(codes_N)).contiguous().numpy() for codes_N in codes]
    return np.concatenate(crops)


def _first_class(problem: Problem, task: int, rotations: int) -> int:
    """Return the number in the arrays of a task's class 0; global labels keep their numbers."""
    benchmark = problem.spec.benchmark
    return task * rotations * benchmark.real_classes if benchmark.labels == "local" else 0
