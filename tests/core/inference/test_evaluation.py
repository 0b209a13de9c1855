"""Accuracy with the task given, and the batches it is counted in."""

import numpy as np
import torch

from core.batches.inputs import Pixels, to_device
from core.data.benchmarks import TaskView, task_view
from core.data.datasets import load_dataset
from core.data.test_rows import batch_counts, batch_sizes
from core.inference.evaluation import correct_images
from core.inference.perceptron import correct_under
from core.networks.base import base_weights
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import NetworkSpec

CPU = torch.device("cpu")


def test_batches_of_128_tile_the_test_set():
    assert batch_sizes(10_000).tolist() == [128] * 78 + [16]
    assert batch_counts(np.ones(300, bool)).tolist() == [128, 128, 44]


def test_a_superfluous_neuron_that_wins_is_an_error():
    """Two pixels, two real classes, one superfluous output: identity weights."""
    images = torch.tensor([[9, 0], [0, 9], [9, 0]], dtype=torch.uint8)
    pixels = Pixels(images, torch.tensor([0, 1, 0]), gain=1.0, offset=0.0)
    base = [torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])]
    view = TaskView(input_gather=np.array([0, 1]), train_rows=np.array([0]), test_rows=np.arange(3))
    keep_all = np.ones((3, 2), dtype=bool)
    drop_last = np.array([[1, 1], [1, 1], [0, 0]], dtype=bool)
    correct = correct_images([view, view], pixels, base, [np.stack([keep_all, drop_last])])
    assert [of_task.tolist() for of_task in correct] == [[False, True, False], [True, True, True]]


def test_tasks_together_are_as_tasks_alone():
    """As on a GPU: all in one pass, with test sets of unequal size."""
    data, spec = load_dataset("digits"), BenchmarkSpec(kind="split", dataset="digits", num_tasks=5)
    pixels, views = to_device(data, "test", CPU), [task_view(spec, data, task, seed=0) for task in range(5)]
    network = NetworkSpec(kind="mlp", hidden=(16,), outputs=10)
    base = [torch.from_numpy(weight) for weight in base_weights(network, 64, seed=0)]
    masks = [np.random.default_rng(0).random((5, *weight.shape)) < 0.5 for weight in base]
    alone = correct_images(views, pixels, base, masks)
    weights = [torch.from_numpy(mask) * weight for mask, weight in zip(masks, base, strict=True)]
    together = correct_under(views, pixels, weights, [view.test_rows for view in views])
    assert len({len(found) for found in alone}) > 1
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
