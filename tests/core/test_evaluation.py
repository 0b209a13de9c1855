"""Accuracy with the task given, and the batches it is counted in."""

import numpy as np
import torch

from core.benchmarks import TaskView
from core.evaluation import correct_images
from core.evaluation_batches import batch_counts, batch_sizes
from core.inputs import Pixels


def test_batches_of_128_tile_the_test_set():
    assert batch_sizes(10_000).tolist() == [128] * 78 + [16]
    assert batch_counts(np.ones(300, bool)).tolist() == [128, 128, 44]


def test_a_superfluous_neuron_that_wins_is_an_error():
    """Two pixels, two real classes, one superfluous output: identity weights."""
    images = torch.tensor([[9, 0], [0, 9], [9, 0]], dtype=torch.uint8)
    pixels = Pixels(images, torch.tensor([0, 1, 0]), gain=1.0, offset=0.0)
    base = [torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])]
    view = TaskView(input_gather=np.array([0, 1]), train_rows=np.array([0]), test_rows=np.arange(3))
    keep_all = [np.ones((3, 2), dtype=bool)]
    assert correct_images(view, pixels, base, keep_all).tolist() == [False, True, False]
    drop_last = [np.array([[1, 1], [1, 1], [0, 0]], dtype=bool)]
    assert correct_images(view, pixels, base, drop_last).tolist() == [True, True, True]
