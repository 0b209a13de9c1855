"""The bank for GPUs answers as the bank for CPUs does; here both on a CPU."""

import numpy as np
import pytest
import torch

from core.errors import InferenceError
from core.inference import device_bank
from core.inference.device_bank import DeviceBank
from core.inference.search import infer_each, infer_tasks, search_first
from core.inference.superposition import gradient_planes, pass_through, superpose
from core.masks.bits import packed_num_bytes
from core.masks.packed_sums import from_tiles
from core.specs.inference import InferenceSpec
from tests.core.inference.test_superposition import CLASSES, images, random_bank


@pytest.fixture(params=[2, 4])
def banks(request, monkeypatch):
    """Return both banks over the same 150 masks, more than one block and the last one not full."""
    monkeypatch.setattr(device_bank, "BLOCK_TASKS", 64)
    bank, _ = random_bank(request.param, 150)
    packed = from_tiles(bank.tiles, packed_num_bytes(bank.shapes))
    return bank, DeviceBank(torch.from_numpy(packed), bank.base)


@pytest.mark.parametrize("objective", ["H", "G"])
def test_every_answer_is_that_of_the_mask_bank(banks, objective):
    mask_bank, device_bank = banks
    tasks = np.flatnonzero(np.arange(150) % 3)
    assert np.array_equal(mask_bank.counts(tasks), device_bank.counts(tasks))
    assert np.array_equal(mask_bank.packed(tasks), device_bank.packed(tasks))
    activations = pass_through(images(7), superpose(device_bank, tasks).weights, objective, CLASSES)
    planes = gradient_planes(activations, mask_bank.base)
    chosen = np.arange(len(planes))
    np.testing.assert_allclose(
        device_bank.sums(planes, tasks, chosen), mask_bank.sums(planes, tasks, chosen), rtol=1e-9
    )
    assert np.array_equal(
        device_bank.top_k_lowest(planes, tasks, chosen, 5)[1],
        mask_bank.top_k_lowest(planes, tasks, chosen, 5)[1],
    )
    np.testing.assert_allclose(
        device_bank.products(activations, tasks),
        mask_bank.products(activations, tasks),
        rtol=1e-9,
        atol=1e-15,
    )


def test_sums_over_a_part_of_the_tiles():
    shape, draw = (40, 200), np.random.default_rng(0)  # 1000 bytes: four tiles, the last not full
    packed = draw.integers(0, 256, (5, 1000), dtype=np.uint8)
    values = draw.standard_normal(8000)
    bank = DeviceBank(torch.from_numpy(packed), (torch.ones(shape),))
    planes = device_bank.to_planes(values)
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    found = bank.sums(planes, np.arange(5), np.array([1, 3]))
    kept = np.r_[2048:4096, 6144:8000]
    np.testing.assert_allclose(found, bits[:, kept] @ values[kept], rtol=1e-9)


@pytest.mark.parametrize("algorithm", ["one_shot", "binary", "exhaustive", "shortlist"])
def test_every_algorithm_finds_the_same_tasks(banks, algorithm):
    x_GND = images(6).reshape(6, 1, -1)
    spec = InferenceSpec(algorithm=algorithm, objective="G", images=1)
    found = [infer_tasks(search_first(spec, bank, 150, num_classes=CLASSES), x_GND).tasks for bank in banks]
    assert np.array_equal(*found)


def test_an_empty_bank_is_refused():
    with pytest.raises(InferenceError, match="empty"):
        DeviceBank(torch.empty(0, 5, dtype=torch.uint8), (torch.ones(5, 8),))


class EveryMask(DeviceBank):
    """A bank without rough sums."""

    def rough_bank(self, num_tasks):
        del num_tasks


def test_rough_sums_are_as_near_as_they_say(banks):
    mask_bank, device_bank = banks
    draw, tasks = np.random.default_rng(0), np.arange(150)
    num_bits = 8 * device_bank.bits.shape[1]
    values = torch.from_numpy(draw.standard_normal((5, num_bits)) * 10.0 ** draw.integers(-6, 3, num_bits))
    rough = device_bank.rough_sums([*values.float()], tasks)
    bits_KN = np.unpackbits(mask_bank.packed(tasks), axis=1, bitorder="little")
    exact = values.float().double().numpy() @ bits_KN.T
    off = np.abs(rough.sums - exact).max(axis=1)
    assert (off <= rough.error).all()
    assert (rough.error < 1e-2 * rough.mass).all()
    assert device_bank.rough_sums([torch.full((num_bits,), torch.inf)], tasks) is None


@pytest.mark.parametrize("infer", [infer_tasks, infer_each])
@pytest.mark.parametrize("objective", ["H", "G"])
def test_rough_sums_change_no_answer(banks, objective, infer):
    bank = banks[1]
    spec, x_GND = InferenceSpec(objective=objective), images(9).unsqueeze(1)
    found, wanted = (
        infer(search_first(spec, one, 150, num_classes=CLASSES), x_GND)
        for one in (bank, EveryMask(bank.bits, bank.base))
    )
    assert np.array_equal(found.tasks, wanted.tasks)
    assert np.array_equal(found.values, wanted.values)
    assert found.num_whole == 0
