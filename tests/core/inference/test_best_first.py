"""The best of many, exactly, from floors; and the answers of one-shot, which rough sums must not change."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import core.inference.search
from core.inference.best_first import best_first, floors
from core.inference.perceptron import PerceptronSearchModel
from core.inference.search import infer_each, infer_tasks, search_first
from core.inference.superposition import MaskBank
from core.masks.bits import pack
from core.masks.packed_sums import to_tiles
from core.masks.packed_tables import RoughSums
from core.specs.inference import InferenceSpec

SHAPES, CLASSES = [(30, 40), (20, 30), (16, 20)], 10
NUM_TASKS, NUM_IMAGES = 160, 36


def exact_of(values, asked):
    def exact(positions):
        asked.append(len(positions))
        return values[:, positions]

    return exact


@pytest.mark.parametrize("slack", [0.0, 0.01, 0.3, 100.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_are_those_of_all(slack, seed):
    draw = np.random.default_rng(seed)
    values = np.round(draw.standard_normal((7, 900)), 2)  # with ties
    asked: list[int] = []
    found = best_first(values - slack * draw.random(values.shape), exact_of(values, asked), 5)
    order = np.argsort(values, axis=1, kind="stable")[:, :5]
    assert np.array_equal(found.positions, order)
    assert np.array_equal(found.values, np.take_along_axis(values, order, axis=1))
    assert (sum(asked) == 900) == (slack == 100.0)
    assert (found.num_whole > 0) == (slack == 100.0)


def test_a_row_ends_once_it_has_a_task_of_its_own_and_another():
    values = np.array([[0.0, 3.0, 1.0, 2.0, 4.0], [0.0, 3.0, 1.0, 2.0, 4.0]])
    found = best_first(values, exact_of(values, []), 4, own=[3])
    assert found.positions.tolist() == [[0, 2, 3, -1]] * 2
    assert found.values[0].tolist() == [0.0, 1.0, 2.0, np.inf]
    assert best_first(values, exact_of(values, []), 4, own=[0]).positions[0].tolist() == [0, 2, -1, -1]
    assert best_first(values, exact_of(values, []), 3, own=[4]).positions[0].tolist() == [0, 2, 3]


def test_floors_allow_for_more_roundings_than_float32_has():
    one = np.ones((1, 1))
    assert floors(RoughSums(one, one[0], one[0]), 2**24, 0.0) == -np.inf


@dataclass(frozen=True)
class EveryMask(MaskBank):
    """A bank without rough sums."""

    def rough_bank(self, num_tasks):
        return None


def bank_of(kind: str) -> MaskBank:
    """Return masks that are random, or copies of a few with up to three bits flipped, some with none."""
    draw = np.random.default_rng(3)
    base = tuple(
        torch.from_numpy(draw.choice([-1, 1], shape) * np.sqrt(2 / shape[1])).float() for shape in SHAPES
    )
    packed = np.stack([pack([draw.random(shape) < 0.5 for shape in SHAPES]) for _ in range(NUM_TASKS)])
    if kind == "near copies":
        packed = np.repeat(packed[: NUM_TASKS // 16], 16, axis=0)
        for mask in packed:
            for bit in draw.integers(0, 8 * mask.size, draw.integers(0, 4)):
                mask[bit // 8] ^= np.uint8(1 << (bit % 8))
    return MaskBank(to_tiles(packed), base)


@pytest.mark.parametrize("kind", ["random", "near copies", "blank images"])
@pytest.mark.parametrize("objective", ["H", "G", "E"])
@pytest.mark.parametrize(
    ("infer", "num_images"),
    [(infer_tasks, 1), (infer_each, 1), (infer_tasks, 3)],
    ids=["together", "each", "three"],
)
def test_rough_sums_change_no_answer(kind, objective, infer, num_images):
    bank, spec = bank_of(kind), InferenceSpec(objective=objective, images=num_images)
    draw = np.random.default_rng(4)
    x = torch.from_numpy(draw.standard_normal((NUM_IMAGES, num_images, SHAPES[0][1]))).float()
    if kind == "blank images":
        x[::2] = 0  # all values are 0, and so all tasks equal
    quick = search_first(spec, bank, NUM_TASKS, num_classes=CLASSES)
    exact = search_first(spec, EveryMask(bank.tiles, bank.base), NUM_TASKS, num_classes=CLASSES)
    expected, found = infer(exact, x), infer(quick, x)
    assert np.array_equal(found.tasks, expected.tasks)
    assert np.array_equal(found.values, expected.values)
    ended = infer(quick, x, own=[int(expected.tasks[0, 0])])
    kept = ended.tasks >= 0
    assert np.array_equal(ended.tasks[kept], expected.tasks[kept])
    assert kept[0].tolist() == [True, True, False, False, False]


def test_less_precise_products_are_not_bounded():
    bank = bank_of("random")
    search = search_first(InferenceSpec(), bank, NUM_TASKS, num_classes=CLASSES)
    x = torch.ones(NUM_IMAGES, 1, SHAPES[0][1])
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert infer_tasks(search, x).num_whole == 0
    finally:
        torch.set_float32_matmul_precision(before)


def test_gradients_are_computed_once_where_there_are_no_rough_sums(monkeypatch):
    """Few tasks, masks on a device or in shards: nothing is computed for sums that do not follow."""
    bank = bank_of("random")
    every = EveryMask(bank.tiles, bank.base)
    search = search_first(InferenceSpec(objective="H"), every, NUM_TASKS, num_classes=CLASSES)
    calls, planes = [], PerceptronSearchModel.planes
    monkeypatch.setattr(
        PerceptronSearchModel, "planes", lambda *given: calls.append("planes") or planes(*given)
    )
    monkeypatch.setattr(core.inference.search, "gradient_values", lambda *_: calls.append("values"))
    x = torch.ones(NUM_IMAGES, 1, SHAPES[0][1])
    infer_tasks(search, x)
    assert calls == []
    infer_each(search, x)
    assert calls == ["planes"] * NUM_IMAGES
