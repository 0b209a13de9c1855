"""Masks without a run folder: the same bits as a run's, and the same answers."""

import numpy as np
import pytest
import yaml

import supsup
from core.masks.bits import bits_digest
from tests.conftest import sweep_text


@pytest.fixture
def values(tmp_path):
    return yaml.safe_load(sweep_text(tmp_path / "runs"))


def test_masks_in_memory_are_those_of_a_run(values, tmp_path):
    problem = supsup.make_problem(values)
    masks = supsup.train_masks(problem, [3, 1])
    assert not [*tmp_path.iterdir()]
    run = supsup.run(values, quiet=True)
    digests, accuracies = run.tasks["digest"].to_pylist(), run.tasks["test_accuracy"].to_pylist()
    assert [bits_digest(packed.tobytes()) for packed in masks.packed] == [digests[3], digests[1]]
    assert masks.accuracy == pytest.approx([accuracies[3], accuracies[1]])
    assert all(np.array_equal(*pair) for pair in zip(masks.by_layer(0), run.mask(3).values(), strict=True))


def test_one_shot_over_a_bank(values):
    problem = supsup.make_problem(values)
    masks = supsup.train_masks(problem, range(4))
    spec, bank = problem.spec, supsup.fill_bank(masks)
    images, labels = supsup.task_images(spec.benchmark, problem.dataset, 2, seed=spec.seed)
    found = supsup.one_shot(masks, bank, images)
    assert np.mean([answer.task == 2 for answer in found]) > 0.5
    right = [answer.label == label for answer, label in zip(found, labels, strict=True) if answer.task == 2]
    assert np.mean(right) == pytest.approx(masks.accuracy[2], abs=0.1)


@pytest.mark.parametrize("tasks", [[], [0, 0], [4], [-1]])
def test_tasks_that_are_not_there(values, tasks):
    with pytest.raises(supsup.InputError, match=r"expected different ones from 0 to 3"):
        supsup.train_masks(supsup.make_problem(values), tasks)


def test_tasks_that_build_on_each_other_need_a_run(values):
    values["training"]["transfer"] = "masks"
    values["training"]["cohort_size"] = 1
    with pytest.raises(supsup.InputError, match="build on each other"):
        supsup.train_masks(supsup.make_problem(values), [0])
