"""Sequences of tasks over several data sets: the same tasks as apart, images of one shape."""

import dataclasses

import numpy as np
import pytest

from core.data.benchmarks import task_view
from core.data.datasets import load_dataset
from core.data.sequence import to_shape
from core.data.task_images import task_images
from core.errors import ConfigError
from core.specs.benchmark import BenchmarkSpec
from core.specs.part import PartSpec

PARTS = (
    PartSpec(kind="split", dataset="digits", classes_per_task=5, class_order="shuffled"),
    PartSpec(kind="whole", dataset="synthetic"),
    PartSpec(kind="rotated", dataset="synthetic", num_tasks=2),
    PartSpec(kind="permuted", dataset="digits", num_tasks=2),
)
SPEC = BenchmarkSpec(kind="sequence", parts=PARTS)


def same(one, two):
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(two), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_tasks_classes_and_shape_come_from_the_parts():
    assert (SPEC.num_tasks, SPEC.image_shape, SPEC.real_classes, SPEC.dataset_classes) == (7, (8, 8), 10, 28)
    assert [SPEC.part_of(task) for task in range(7)] == [
        (0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1),
    ]  # fmt: skip


def test_a_view_depends_neither_on_the_number_of_tasks_nor_on_later_parts():
    data = load_dataset(SPEC)
    few = dataclasses.replace(SPEC, num_tasks=2)
    fewer_parts = BenchmarkSpec(kind="sequence", parts=PARTS[:2])
    for task in range(2):
        view = task_view(SPEC, data, task, seed=3)
        assert same(view, task_view(few, load_dataset(few), task, seed=3))
        assert same(view, task_view(fewer_parts, load_dataset(fewer_parts), task, seed=3))


@pytest.mark.parametrize("task", range(7))
def test_a_task_has_the_images_and_labels_that_its_part_has_alone(task):
    number, there = SPEC.part_of(task)
    part = SPEC.part_benchmarks[number]
    alone, labels_alone = task_images(part, load_dataset(part), there, seed=3)
    images, labels = task_images(SPEC, load_dataset(SPEC), task, seed=3)
    assert np.array_equal(labels, labels_alone)
    if part.dataset == "digits":  # of full size
        assert np.array_equal(images, np.rint(alone * (255 / 16)).astype(np.uint8))
    elif part.kind == "split":
        assert np.array_equal(images[:, 1:7, 1:7], alone)


@pytest.mark.parametrize(("kind", "there"), [("rotated", 1), ("permuted", 0)])
def test_the_colours_of_a_pixel_stay_together(kind, there):
    part = PartSpec(kind=kind, dataset="synthetic", num_tasks=2)
    grey = BenchmarkSpec(kind="sequence", parts=(part,))
    data = load_dataset(grey)
    images, _ = task_images(grey, data, there, seed=3)
    colour = dataclasses.replace(data, **{
        key: np.repeat(getattr(data, key)[:, None], 3, axis=1) for key in ("train_images", "test_images")
    })  # fmt: skip
    seen, _ = task_images(grey, colour, there, seed=3)
    assert np.array_equal(seen, np.repeat(images[:, None], 3, axis=1))


def test_a_smaller_image_is_centred_on_blank_and_grey_is_repeated():
    images = np.array([[[16, 8], [4, 0]]], dtype=np.uint8)
    (found,) = to_shape(images, (3, 5, 5), 16.0)
    assert np.array_equal(found[0], found[2])
    assert found[0, 1:3, 1:3].tolist() == [[255, 128], [64, 0]]
    assert found.sum() == 3 * (255 + 128 + 64)


@pytest.mark.parametrize(
    ("parts", "more", "words"),
    [
        ((), {}, r"benchmark\.parts: found \(\), expected a list of parts"),
        (({"kind": "split", "dataset": "mnits"},), {}, r"benchmark\.parts\[0\]\.dataset: found 'mnits'"),
        (({"kind": "split", "dataset": "image_folder"},), {}, r"parts\[0\]\.folder: found None"),
        (({"kind": "permuted", "dataset": "digits"},), {}, r"parts\[0\]\.num_tasks: found 0"),
        (({"kind": "whole", "dataset": "digits", "num_tasks": 2},), {}, "expected 1 for a 'whole'"),
        (({"kind": "whole", "dataset": "digits", "classes_per_task": 2},), {}, "null for a 'whole'"),
        (({"kind": "whole", "dataset": "digits"},), {"image_size": 6}, "found 6, expected pixels from 8"),
        (({"kind": "whole", "dataset": "digits"},), {"num_tasks": 2}, "at most 1, those of the parts"),
        (({"kind": "whole", "dataset": "digits"},), {"dataset": "mnist"}, "none beside benchmark.parts"),
        (({"kind": "whole", "dataset": "digits"},), {"augment": True}, "null for 'sequence'"),
    ],
)
def test_what_is_wrong_in_a_sequence_is_named(parts, more, words):
    with pytest.raises(ConfigError, match=words):
        BenchmarkSpec(kind="sequence", parts=tuple(PartSpec(**part) for part in parts), **more)
