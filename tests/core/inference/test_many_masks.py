"""Each image under a mask of its own, from the bits: equal to forming the mask's weights."""

import numpy as np
import pytest
import torch

from core.inference.many_masks import BLOCK_IMAGES, logits_by_task, many_masks
from core.inference.perceptron import PerceptronSearchModel
from core.inference.sharded_bank import local_shards
from core.inference.superposition import MaskBank
from core.masks.bits import pack
from core.masks.packed_sums import to_tiles

NUM_TASKS = 7
SHAPES = {
    "rows that begin within a byte": [(13, 37), (5, 13), (3, 5)],
    "one layer": [(10, 64)],
    "LeNet": [(300, 784), (100, 300), (500, 100)],
}


def bank_of(shapes, num_threads=1):
    draw = np.random.default_rng(0)
    packed = [pack([draw.random(shape) < 0.4 for shape in shapes]) for _ in range(NUM_TASKS)]
    base = tuple(torch.from_numpy(draw.standard_normal(shape).astype(np.float32)) for shape in shapes)
    return MaskBank(to_tiles(np.stack(packed)), base, num_threads)


def batch(bank, num_images):
    draw = np.random.default_rng(1)
    x_BD = torch.from_numpy(draw.standard_normal((num_images, bank.base[0].shape[1])).astype(np.float32))
    return x_BD, draw.integers(0, NUM_TASKS, num_images)


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("num_images", [1, BLOCK_IMAGES, 2 * BLOCK_IMAGES + 3])
def test_logits_are_those_of_the_masked_weights(shapes, num_images):
    bank = bank_of(shapes)
    model, (x_BD, tasks_B) = PerceptronSearchModel(bank.base), batch(bank, num_images)
    expected = logits_by_task(model, x_BD, bank, tasks_B)
    atol = 1e-6 * float(expected.abs().max())  # sums of hundreds of terms, in another order
    torch.testing.assert_close(model.own_logits(x_BD, bank, tasks_B), expected, rtol=1e-4, atol=atol)


def test_a_row_depends_on_neither_the_batch_nor_the_threads():
    bank, threaded = bank_of(SHAPES["LeNet"]), bank_of(SHAPES["LeNet"], num_threads=3)
    model, (x_BD, tasks_B) = PerceptronSearchModel(bank.base), batch(bank, 40)
    whole = model.own_logits(x_BD, bank, tasks_B)
    alone = [model.own_logits(x_BD[i : i + 1], bank, tasks_B[i : i + 1]) for i in range(40)]
    assert torch.equal(whole, torch.cat(alone))
    assert torch.equal(whole, model.own_logits(x_BD, threaded, tasks_B))


def test_masks_of_shards_give_the_same_bits():
    bank = bank_of(SHAPES["LeNet"])
    model, (x_BD, tasks_B) = PerceptronSearchModel(bank.base), batch(bank, 20)
    sharded = local_shards(bank, 3)
    assert torch.equal(model.own_logits(x_BD, bank, tasks_B), model.own_logits(x_BD, sharded, tasks_B))


def test_other_networks_and_machines_go_task_by_task(monkeypatch):
    bank = bank_of([(10, 64)])
    assert many_masks([weight.double() for weight in bank.base]) is None
    monkeypatch.setattr("core.inference.many_masks.can_look_up", lambda: False)
    model, (x_BD, tasks_B) = PerceptronSearchModel(bank.base), batch(bank, 9)
    expected = torch.cat(
        [model.logits(x_BD[i : i + 1], bank.packed(tasks_B[i : i + 1])[0], 0) for i in range(9)]
    )
    torch.testing.assert_close(model.own_logits(x_BD, bank, tasks_B), expected)
