"""Accuracy of masks on test images: with the task given, and with the task inferred.

A prediction is the argmax over all s outputs, so a superfluous neuron that wins is an error.
With the task inferred, the mask of the inferred task predicts: a correct class counts in
scenario GNs, but in GNu only if the task is correct too.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels
from core.data.benchmarks import TaskView
from core.data.test_rows import InferredRows, blank_rows, deciding_images
from core.inference.perceptron import correct_under
from core.inference.search import TaskSearch, infer_tasks
from core.specs.inference import TEST_BATCH_SIZE

GPU_TASKS_AT_ONCE = 64  # in one forward pass: 65,536 images and 80 MB of weights for LeNet
OnImages = Callable[[int], None]
CHECKED_INFERENCES = 8  # per task, for which a shortlist is compared with the exact answer


def correct_images(
    views: Sequence[TaskView],
    pixels: Pixels,
    base: Sequence[Tensor],
    masks: Sequence[NDArray[np.bool_]],
) -> list[NDArray[np.bool_]]:
    """Return, for each task, which test images its mask classifies correctly, bool [test rows].

    views: of K tasks. pixels: the test images. base: float32 [O, I] per layer. masks: bool
    [K, O, I] per layer. On a GPU several tasks share a forward pass, on a CPU each has its own.
    """
    size = GPU_TASKS_AT_ONCE if base[0].is_cuda else 1
    found = []
    for start in range(0, len(views), size):
        chunk = slice(start, start + size)
        on_device = [torch.from_numpy(mask[chunk]).to(base[0].device) for mask in masks]
        weights = [torch.where(mask, w, 0.0) for mask, w in zip(on_device, base, strict=True)]
        found += correct_under(views[chunk], pixels, weights, [view.test_rows for view in views[chunk]])
    return found


def ignore_images(num_done: int) -> None:
    """Do nothing with the number of images done."""


def infer_test_images(
    search: TaskSearch,
    *,
    own: Sequence[int],
    view: TaskView,
    pixels: Pixels,
    num_batches: int | None,
    seed: int,
    task: int,
    on_images: OnImages = ignore_images,
) -> InferredRows:
    """Infer the task of the test images in ``view`` and classify them with the inferred mask.

    own: the correct answers: the task itself, or in scenario NNs the masks that belong to it.
    num_batches: number of test batches, the first ones; None for all. seed, task: which images decide, where
    they are drawn. A task's rows do not depend
    on which other tasks the caller evaluates. on_images: called now and then with the number of images done.
    """
    rows = blank_rows(search.spec.images, len(view.test_rows), num_batches)
    deciding = deciding_images(search.spec, rows, seed=seed, task=task)
    tasks_GR, values_GR, exact_task, num_whole = _rankings(
        search, rows, view, pixels, deciding, own=own, on_images=on_images
    )
    is_true = np.isin(tasks_GR, own)
    rank = np.where(is_true.any(axis=1), is_true.argmax(axis=1) + 1, 0)
    rows = replace(
        rows,
        inferred_task=tasks_GR[:, 0].astype(np.int32),
        rank=rank.astype(np.int32),
        exact_task=exact_task,
        deciding_image=view.test_rows[[one[0] for one in deciding]].astype(np.int32),
        num_whole=num_whole,
        gap=rows.gap if search.spec.algorithm == "binary" else _margins(values_GR, is_true),
    )
    return replace(rows, num_correct=_num_correct(rows, search, view, pixels))


def _margins(values_GR: NDArray[np.float64], is_true: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the best wrong value minus the best correct one, float32 [G]; NaN where either is missing."""
    best_wrong = np.where(is_true, np.inf, values_GR).min(axis=1)
    best_right = np.where(is_true, values_GR, np.inf).min(axis=1)
    is_known = np.isfinite(best_wrong) & np.isfinite(best_right)
    margins = np.full(len(values_GR), np.nan, dtype=np.float32)
    margins[is_known] = best_wrong[is_known] - best_right[is_known]
    return margins


def _rankings(
    search: TaskSearch,
    rows: InferredRows,
    view: TaskView,
    pixels: Pixels,
    deciding: Sequence[NDArray[np.int64]],
    *,
    own: Sequence[int],
    on_images: OnImages,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], int]:
    """Return the best tasks of each inference [G, best] and their values, as far as rank and margin need them.

    Also the exact answers, -1 if not run, and ``Ranking.num_whole``.
    """
    num_deciding = np.array([len(one) for one in deciding])
    ranked, values, num_whole = [], [], 0
    exact_task = np.full(len(rows.batch), -1, dtype=np.int32)
    for group in _equal_groups(num_deciding):
        chosen = np.stack([deciding[row] for row in group])
        x_BD = search.model.inputs(view, pixels, view.test_rows[chosen.reshape(-1)])
        x_GND = x_BD.reshape(*chosen.shape, -1)
        before, num_images = int(rows.num_images[: group[0]].sum()), int(rows.num_images[group].sum())
        ranking = infer_tasks(search, x_GND, partial(_report, on_images, before, num_images), own)
        ranked.append(ranking.tasks)
        values.append(ranking.values)
        num_whole += ranking.num_whole
        checked = group[group < CHECKED_INFERENCES]
        if search.spec.algorithm == "shortlist" and len(checked):
            exact = replace(search, spec=replace(search.spec, algorithm="one_shot"))
            exact_task[checked] = infer_tasks(exact, x_GND[: len(checked)]).tasks[:, 0]
    return np.concatenate(ranked), np.concatenate(values), exact_task, num_whole


def _report(on_images: OnImages, before: int, num_images: int, share: float) -> None:
    on_images(before + round(share * num_images))


def _equal_groups(num_deciding: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split the inferences, in order, into groups of up to 128 that use the same number of images."""
    cuts = np.flatnonzero(np.diff(num_deciding)) + 1
    runs = np.split(np.arange(len(num_deciding)), cuts)
    return [part for run in runs for part in np.split(run, range(TEST_BATCH_SIZE, len(run), TEST_BATCH_SIZE))]


def _num_correct(rows: InferredRows, search: TaskSearch, view: TaskView, pixels: Pixels) -> NDArray[np.int32]:
    """Count the images of each row that its inferred task's mask classifies correctly, int32 [rows]."""
    num_correct = np.zeros_like(rows.inferred_task)
    for inferred in np.unique(rows.inferred_task):
        of_task = np.flatnonzero(rows.inferred_task == inferred)
        images = np.concatenate([np.arange(rows.num_images[row]) + rows.first_image[row] for row in of_task])
        packed_P = search.bank.packed(np.array([inferred]))[0]
        correct = search.model.correct(view, pixels, view.test_rows[images], packed_P, int(inferred))
        starts = np.concatenate([[0], np.cumsum(rows.num_images[of_task])[:-1]])
        num_correct[of_task] = np.add.reduceat(correct.astype(np.int32), starts)
    return num_correct
