"""A straightforward training loop for one supermask, the baseline of the measurements.

Scores are parameters, the straight-through mask is an autograd function, RMSProp is torch's, and a
DataLoader decodes, scales, normalises and permutes the images one by one on the CPU.
``tensor_loop`` is the same training with the data already in one tensor.
"""

import math
import time
import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from core.batches.inputs import gather_inputs, to_device
from core.data.datasets import Dataset

MEAN, STD = 0.1307, 0.3081
WIDTHS = (784, 300, 100, 500)
LEARNING_RATE, BATCH = 1e-4, 128


class _Mask(torch.autograd.Function):
    """1 where a score is not negative; the gradient goes straight through."""

    @staticmethod
    def forward(_ctx: object, scores: Tensor) -> Tensor:
        return (scores >= 0).float()

    @staticmethod
    def backward(_ctx: object, grad: Tensor) -> Tensor:
        return grad


class _MaskedLinear(nn.Module):
    """A fixed layer of signed constants under a trained mask."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(outputs, inputs).sign() * math.sqrt(2 / inputs))
        self.scores = nn.Parameter((torch.rand(outputs, inputs) * 2 - 1) / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * _Mask.apply(self.scores))


class _PermutedImages(TorchDataset):
    """Images transformed one by one."""

    def __init__(self, dataset: Dataset) -> None:
        self.images, self.labels = dataset.train_images, dataset.train_labels
        self.permutation = torch.randperm(784)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index])
        scaled = torch.from_numpy(np.array(image, copy=True)).unsqueeze(0).float().div(255)
        normalised = scaled.sub(torch.tensor([MEAN]).view(-1, 1, 1)).div(torch.tensor([STD]).view(-1, 1, 1))
        return normalised.view(-1)[self.permutation], int(self.labels[index])


def data_loader_loop(dataset: Dataset, steps: int) -> float:
    """Return seconds per step, with a DataLoader in this process (one core)."""
    warnings.filterwarnings("ignore", category=UserWarning)
    batches = iter(DataLoader(_PermutedImages(dataset), batch_size=BATCH, shuffle=True))
    return _train(lambda: next(batches), steps)


def tensor_loop(dataset: Dataset, steps: int) -> float:
    """Return seconds per step, with batches taken from one tensor, as ours are."""
    pixels = to_device(dataset, "train", torch.device("cpu"))
    gather_1D, order = torch.randperm(784).unsqueeze(0), torch.randperm(len(dataset.train_images))
    rows = iter(order.split(BATCH))

    def batch() -> tuple[Tensor, Tensor]:
        rows_B = next(rows)
        return gather_inputs(pixels, gather_1D, rows_B.unsqueeze(0))[0], pixels.labels[rows_B]

    return _train(batch, steps)


def _train(batch: Callable[[], tuple[Tensor, Tensor]], steps: int) -> float:
    layers = [_MaskedLinear(i, o) for i, o in pairwise(WIDTHS)]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    optimizer = torch.optim.RMSprop(network.parameters(), lr=LEARNING_RATE)
    start_s = 0.0
    for step in range(-5, steps):  # the first steps warm up
        if step == 0:
            start_s = time.perf_counter()
        x, labels = batch()
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
    return (time.perf_counter() - start_s) / steps
