"""Tasks as choices of rows and pixels."""

import numpy as np
import pytest

from core.data.benchmarks import input_gather, rotation_gather, task_view
from core.data.datasets import load_dataset
from core.specs.benchmark import BenchmarkSpec

PERMUTED = BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=9)


def test_every_task_is_permuted_differently_task_0_too():
    gathers = [input_gather(PERMUTED, (6, 6), task, seed=0) for task in range(9)]
    assert all(np.array_equal(np.sort(gather), np.arange(36)) for gather in gathers)
    assert not np.array_equal(gathers[0], np.arange(36))
    assert len({gather.tobytes() for gather in gathers}) == 9


def test_neighbouring_seeds_share_no_permutation_by_default():
    def tasks(seed, rule):
        spec = BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=9, permutation=rule)
        return {input_gather(spec, (6, 6), task, seed=seed).tobytes() for task in range(9)}

    assert not tasks(0, "named") & tasks(1, "named")
    assert len(tasks(0, "original") & tasks(1, "original")) == 8  # the original rule's fault, on offer


def test_quarter_turns_are_exact():
    image = np.arange(16).reshape(4, 4)
    for quarter in range(4):
        gather = rotation_gather((4, 4), 90.0 * quarter)
        assert np.array_equal(image.ravel()[gather].reshape(4, 4), np.rot90(image, quarter))


def test_rotation_reads_the_nearest_pixel_or_blank():
    gather = rotation_gather((28, 28), 45.0).reshape(28, 28)
    assert gather[0, 0] == 784  # the corner comes from outside
    for row, column in [(14, 20), (9, 11), (17, 5)]:
        y, x = 13.5 - row, column - 13.5
        turn = np.deg2rad(45.0)
        source = (13.5 - (-np.sin(turn) * x + np.cos(turn) * y), np.cos(turn) * x + np.sin(turn) * y + 13.5)
        found = np.array(divmod(gather[row, column], 28))
        assert np.abs(found - source).max() <= 0.5 + 1e-6


def test_rotated_task_does_not_depend_on_the_number_of_tasks():
    few = BenchmarkSpec(kind="rotated", dataset="mnist", num_tasks=2)
    many = BenchmarkSpec(kind="rotated", dataset="mnist", num_tasks=36)
    assert np.array_equal(input_gather(few, (28, 28), 1, seed=0), input_gather(many, (28, 28), 1, seed=0))


@pytest.mark.parametrize("task", range(2))
def test_split_takes_consecutive_classes_and_keeps_labels(task):
    dataset = load_dataset("synthetic")
    view = task_view(BenchmarkSpec(kind="split", dataset="synthetic", num_tasks=2), dataset, task, seed=0)
    assert set(dataset.train_labels[view.train_rows].tolist()) == {2 * task, 2 * task + 1}
    assert set(dataset.test_labels[view.test_rows].tolist()) == {2 * task, 2 * task + 1}
    assert np.all(np.diff(view.test_rows) > 0)  # file order
