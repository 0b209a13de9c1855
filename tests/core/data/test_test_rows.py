"""The images of a test batch that decide."""

import numpy as np
import pytest

from core.data.test_rows import blank_rows, deciding_images
from core.specs.inference import InferenceSpec

DRAWN = InferenceSpec(deciding="drawn")


def chosen(spec, task=3, num_images=300, num_batches=None, seed=0):
    rows = blank_rows(spec.images, num_images, num_batches)
    return [one.tolist() for one in deciding_images(spec, rows, seed=seed, task=task)]


def test_the_first_images_decide_unless_they_are_drawn():
    assert chosen(InferenceSpec()) == [[0], [128], [256]]
    assert chosen(InferenceSpec(images=50))[2] == list(range(256, 300))
    assert chosen(InferenceSpec(images="each"), num_images=3) == [[0], [1], [2]]


def test_drawn_images_lie_in_their_batch_and_differ_between_tasks_and_seeds():
    found = np.array([chosen(DRAWN, task) for task in range(200)])[..., 0]
    for batch, size in enumerate([128, 128, 44]):
        within = found[:, batch] - 128 * batch
        assert within.min() >= 0
        assert within.max() < size
        assert len(set(within)) > size // 2
    assert chosen(DRAWN) == chosen(DRAWN)
    assert chosen(DRAWN, seed=1) != chosen(DRAWN)


def test_a_batch_draws_the_same_images_whatever_else_is_evaluated():
    assert chosen(DRAWN, num_batches=2) == chosen(DRAWN)[:2]
    many = chosen(InferenceSpec(images=10, deciding="drawn"))
    assert all(len(set(one)) == 10 and one == sorted(one) for one in many)


@pytest.mark.parametrize("images", ["each", 128])
def test_where_all_images_decide_nothing_is_drawn(images):
    both = InferenceSpec(images=images, deciding="drawn"), InferenceSpec(images=images)
    assert both[0].label == both[1].label
    assert chosen(both[0]) == chosen(both[1])


def test_labels_tell_drawn_images_from_the_first():
    assert DRAWN.label == "one_shot-G-1-drawn"
    assert InferenceSpec(deciding="drawn", norms="running").label == "one_shot-G-1-drawn-running"
