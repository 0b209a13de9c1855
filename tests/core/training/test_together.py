"""What a GPU does for all layers at once, here on a CPU: the bits of one after the other. No GPU is needed."""

import numpy as np
import pytest
import torch

from core.batches.images import _class_numbers, _cohort_labels, task_labels
from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import NetworkSpec
from core.specs.training import OptimizerSpec
from core.training.loop import fill_tensors, named_tensors, to_arrays
from core.training.modules import start_state
from core.training.optimizers import Optimizer
from core.training.precision import gpu_products
from tests.conftest import tiny_spec

SPECS = [
    OptimizerSpec(kind="rmsprop"),
    OptimizerSpec(kind="rmsprop", lr=0.01, momentum=0.9, weight_decay=0.1),
    OptimizerSpec(kind="adam", weight_decay=0.01),
    OptimizerSpec(kind="adam", state="bfloat16"),
    OptimizerSpec(kind="sgd"),
    OptimizerSpec(kind="sgd", momentum=0, weight_decay=0),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.state}-{spec.weight_decay}")
def test_an_update_of_all_layers_has_the_bits_of_one_after_the_other(spec):
    torch.manual_seed(0)
    layers = [torch.randn(shape) for shape in [(2, 7, 5), (2, 3, 4, 3, 3), (2, 1)]]
    optimizer = Optimizer(spec)
    one, whole = (
        start_state(optimizer, [layer.clone() for layer in layers], torch.zeros(2, 0), is_whole=is_whole)
        for is_whole in (False, True)
    )
    for t in range(12):
        grads = [torch.randn_like(layer) for layer in layers]
        for state in (one, whole):
            state.step.add_(1)
            state.update(optimizer, [grad.clone() for grad in grads], 1 / (t + 1))
    assert same_state(one, whole)
    again = start_state(optimizer, layers, torch.zeros(2, 0), is_whole=True)
    fill_tensors(again.tensors(), to_arrays(one.tensors()))  # a checkpoint fills what a step updates
    assert same_state(again, one)
    for state in (one, again):
        state.update(optimizer, [torch.ones_like(layer) for layer in layers], 1.0)
    assert same_state(again, one)


def same_state(a, b):
    pairs = list(zip(named_tensors(a.tensors()), named_tensors(b.tensors()), strict=True))
    return len(pairs) > 3 and all(x == y and torch.equal(s, t) for (x, s), (y, t) in pairs)


@pytest.mark.parametrize("labels", ["local", "global"])
def test_labels_of_a_cohort_are_those_of_each_task(labels):
    benchmark = BenchmarkSpec(
        kind="split", dataset="synthetic", num_tasks=2, labels=labels, class_order="shuffled"
    )
    network = NetworkSpec(kind="conv4", outputs=3 if labels == "local" else 8)
    problem = Problem(tiny_spec(benchmark=benchmark, network=network), load_dataset("synthetic"))
    views = problem.views([1, 0])
    rows_KB = torch.from_numpy(np.stack([view.train_rows[:20] for view in views]))
    classes_KC = _class_numbers(views, torch.device("cpu"))
    assert (classes_KC is None) == (labels == "global")
    found_KB = _cohort_labels(classes_KC, problem.train, rows_KB)
    for view, rows_B, found_B in zip(views, rows_KB, found_KB, strict=True):
        assert torch.equal(found_B, task_labels(view, problem.train, rows_B))


def test_products_of_a_gpu_are_as_the_sweep_says_and_as_before_afterwards():
    def state():
        products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        return products.allow_tf32, convolutions.allow_tf32, convolutions.deterministic

    before = state()
    with gpu_products("float32"):
        assert state() == (False, False, True)
        with gpu_products("tf32"):
            assert state() == (True, True, True)
        with gpu_products("bfloat16"):
            assert state() == (False, False, True)
    assert state() == before
