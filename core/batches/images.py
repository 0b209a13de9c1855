"""Batches of images for networks that take whole images: augmented for training, plain for testing.

Images in memory are cropped and flipped on their device; those of a folder are decoded by threads,
ahead of the computation. How an image is augmented depends only on (seed, task, position in the task's
order), so training can resume anywhere.

Letters: K tasks, B images of a batch, N images, C channels, H and W height and width, T steps.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels, gather_inputs
from core.batches.problem import Problem
from core.data.benchmarks import TaskView
from core.data.image_folder import decode_test, decode_train
from core.seeding import stream
from core.specs.benchmark import BenchmarkSpec
from core.specs.run import RunSpec

PADDING = 4  # pixels on each side, before an image is cropped
NUM_CROPS = (2 * PADDING + 1) ** 2
CHUNK_IMAGES = 256  # in one forward pass
AHEAD = 2  # batches of a folder to decode in advance
# Maps a step's number to images [K, B, C, H, W] and labels int64 [K, B].
Batches = Callable[[int], tuple[Tensor, Tensor]]


def train_batches(problem: Problem, tasks: Sequence[int], orders: NDArray[np.int32]) -> Batches:
    """Return the batches of training, by step.

    orders: int32 [K, T * B], the order of each task's training images (``core.training.cohort.image_order``).
    """
    return (_FolderBatches if problem.train.files else _memory_batches)(problem, tasks, orders)


def images_at_test(spec: BenchmarkSpec, view: TaskView, pixels: Pixels, rows_N: NDArray[np.int64]) -> Tensor:
    """Return images as the task sees them at test, normalised, float32 [N, C, H, W]."""
    channels, height, width = spec.channels_first
    if pixels.files:
        decoded = _threads().map(lambda row: decode_test(pixels.files[row], height), rows_N.tolist())
        return _normalised(np.stack(list(decoded)), pixels)
    device = pixels.images.device
    gather_1D = torch.from_numpy(view.input_gather).to(device).unsqueeze(0)
    rows_1N = torch.from_numpy(rows_N).to(device).unsqueeze(0)
    return gather_inputs(pixels, gather_1D, rows_1N)[0].view(-1, channels, height, width)


def classified(
    spec: BenchmarkSpec,
    view: TaskView,
    pixels: Pixels,
    rows_N: NDArray[np.int64],
    logits: Callable[[Tensor], Tensor],
) -> NDArray[np.bool_]:
    """Return which test images of a task are classified correctly by ``logits``, bool [N].

    logits: a function from [B, C, H, W] to [B, O].
    """
    found = []
    for rows in np.split(rows_N, range(CHUNK_IMAGES, len(rows_N), CHUNK_IMAGES)):
        with torch.no_grad():
            predicted = logits(images_at_test(spec, view, pixels, rows)).argmax(dim=1)
        labels = task_labels(view, pixels, torch.from_numpy(rows).to(pixels.labels.device))
        found.append((predicted == labels).cpu().numpy())
    return np.concatenate(found)


def task_labels(view: TaskView, pixels: Pixels, rows: Tensor) -> Tensor:
    """Return the labels of images as the task numbers its classes, int64 of the shape of ``rows``."""
    labels = pixels.labels[rows]
    if view.classes is None:
        return labels
    local = np.zeros(view.classes.max() + 1, dtype=np.int64)
    local[view.classes] = np.arange(len(view.classes))
    return torch.from_numpy(local).to(labels.device)[labels]


def crop_and_flip(images_BCHW: Tensor, codes_B: Tensor) -> Tensor:
    """Return each image shifted by up to 4 pixels, blank beyond its edge, and flipped or not.

    codes_B: 2 * (9 * rows + columns) + flip, rows and columns from 0 to 8, 4 for no shift. The result
    has its channels last in memory, which is fastest for convolutions on a CPU.
    """
    num_images, _, height, width = images_BCHW.shape
    crops = torch.div(codes_B.long(), 2, rounding_mode="floor")
    top, left = crops // (2 * PADDING + 1), crops % (2 * PADDING + 1)
    device = images_BCHW.device
    rows_BH = top.unsqueeze(1) + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(num_images, -1)
    is_flipped = (codes_B % 2 == 1).unsqueeze(1)
    columns_BW = left.unsqueeze(1) + torch.where(is_flipped, width - 1 - columns, columns)
    padded = torch.nn.functional.pad(images_BCHW, (PADDING,) * 4).permute(0, 2, 3, 1)
    image_B11 = torch.arange(num_images, device=device)[:, None, None]
    return padded[image_B11, rows_BH.unsqueeze(2), columns_BW.unsqueeze(1)].permute(0, 3, 1, 2)


def _memory_batches(problem: Problem, tasks: Sequence[int], orders: NDArray[np.int32]) -> Batches:
    spec, pixels, views, device = problem.spec, problem.train, problem.views(tasks), problem.device
    size = spec.training.batch_size
    order_KT = torch.from_numpy(orders).to(device)
    gather_KD = torch.from_numpy(np.stack([view.input_gather for view in views])).to(device)
    codes_KT = torch.from_numpy(_codes(spec, tasks, orders.shape[1])).to(device)
    shape, classes_KC = spec.benchmark.channels_first, _class_numbers(views, device)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        now = slice(step * size, (step + 1) * size)
        rows_KB = order_KT[:, now].long()
        if spec.benchmark.augment:
            images = pixels.images[rows_KB.flatten()].view(-1, *shape)
            x = _scaled(crop_and_flip(images, codes_KT[:, now].flatten()), pixels)
        else:
            x = gather_inputs(pixels, gather_KD, rows_KB)
        return x.view(*rows_KB.shape, *shape), _cohort_labels(classes_KC, pixels, rows_KB)

    return batch


def _codes(spec: RunSpec, tasks: Sequence[int], length: int) -> NDArray[np.uint8]:
    """Draw how each image is cropped and flipped, uint8 [K, T * B]; see ``crop_and_flip``."""
    if not spec.benchmark.augment:
        return np.zeros((len(tasks), 0), dtype=np.uint8)
    draws = [stream(spec.seed, "augmentation", task) for task in tasks]
    return np.stack([draw.integers(0, 2 * NUM_CROPS, size=length, dtype=np.uint8) for draw in draws])


class _FolderBatches:
    """Batches of a folder; threads decode the next ones in the meantime."""

    def __init__(self, problem: Problem, tasks: Sequence[int], orders: NDArray[np.int32]) -> None:
        self._spec, self._pixels = problem.spec, problem.train
        self._classes_KC = _class_numbers(problem.views(tasks), self._pixels.labels.device)
        self._tasks, self._orders = tasks, orders
        self._waiting: dict[int, list[Future[NDArray[np.uint8]]]] = {}

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a step."""
        size, num_steps = self._spec.training.batch_size, self._orders.shape[1]
        for ahead in range(step, min(step + 1 + AHEAD, num_steps // size)):
            if ahead not in self._waiting:
                self._waiting[ahead] = self._submit(ahead)
        decoded = np.stack([future.result() for future in self._waiting.pop(step)])
        rows = self._orders[:, step * size : (step + 1) * size].astype(np.int64)
        rows_KB = torch.from_numpy(rows).to(self._pixels.labels.device)
        x_KBCHW = _normalised(decoded, self._pixels).view(*rows_KB.shape, *decoded.shape[1:])
        return x_KBCHW, _cohort_labels(self._classes_KC, self._pixels, rows_KB)

    def _submit(self, step: int) -> list[Future[NDArray[np.uint8]]]:
        size = self._spec.training.batch_size
        return [
            _threads().submit(self._decode, task, position, int(self._orders[k, position]))
            for k, task in enumerate(self._tasks)
            for position in range(step * size, (step + 1) * size)
        ]

    def _decode(self, task: int, position: int, row: int) -> NDArray[np.uint8]:
        file, side = self._pixels.files[row], self._spec.benchmark.image_shape[-1]
        if not self._spec.benchmark.augment:
            return decode_test(file, side)
        return decode_train(file, side, stream(self._spec.seed, "augmentation", task, position))


def _class_numbers(views: Sequence[TaskView], device: torch.device) -> Tensor | None:
    """Return how each task numbers the classes of the data set, int64 [K, classes]; None if it keeps their numbers.

    On the device, once for all steps: a copy in a step would wait for the device.
    """
    if any(view.classes is None for view in views):
        return None
    chosen = [view.classes for view in views if view.classes is not None]
    local = np.zeros((len(chosen), max(int(classes.max()) for classes in chosen) + 1), dtype=np.int64)
    for row, classes in zip(local, chosen, strict=True):
        row[classes] = np.arange(len(classes))
    return torch.from_numpy(local).to(device)


def _cohort_labels(classes_KC: Tensor | None, pixels: Pixels, rows_KB: Tensor) -> Tensor:
    """Return the labels of images as each task numbers its classes, int64 [K, B]."""
    labels_KB = pixels.labels[rows_KB]
    return labels_KB if classes_KC is None else classes_KC.gather(1, labels_KB)


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that decode; decoding releases the GIL."""
    return ThreadPoolExecutor(max(2, min(16, len(os.sched_getaffinity(0)))), thread_name_prefix="decode")


def _normalised(images_NCHW: NDArray[np.uint8], pixels: Pixels) -> Tensor:
    """Return decoded images, normalised, on the device of the labels."""
    return _scaled(torch.from_numpy(images_NCHW).to(pixels.labels.device), pixels)


def _scaled(images_NCHW: Tensor, pixels: Pixels) -> Tensor:
    gain, offset = (_per_pixel(value, images_NCHW.shape[1:]) for value in (pixels.gain, pixels.offset))
    return images_NCHW.float() * gain + offset


def _per_pixel(value: float | Tensor, shape: Any) -> float | Tensor:
    return value.view(*shape) if isinstance(value, Tensor) else value
