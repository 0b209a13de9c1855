"""Task inference, against numpy written from the paper's equations alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import InferenceError
from core.inference.search import infer_tasks, search_first
from core.inference.sharded_bank import local_shards, shard_ranges
from core.inference.superposition import MaskBank
from core.masks.bits import pack, packed_num_bytes
from core.masks.packed_sums import to_tiles
from core.specs.inference import InferenceSpec

SHAPES = [(60, 64), (40, 60), (30, 40)]
CLASSES, NUM_TASKS = 10, 21


def random_masks(num_tasks: int, seed: int = 0) -> list[list[np.ndarray]]:
    draw = np.random.default_rng(seed)
    return [[draw.random(shape) < 0.5 for shape in SHAPES] for _ in range(num_tasks)]


def base_weights() -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    return [draw.choice([-1, 1], shape) * np.sqrt(2 / shape[1]) for shape in SHAPES]


def bank_of(masks, dtype=torch.float32) -> MaskBank:
    packed = np.stack([pack(mask) for mask in masks])
    return MaskBank(to_tiles(packed), tuple(torch.from_numpy(w).to(dtype) for w in base_weights()))


def search(spec: InferenceSpec, bank=None, k: int = NUM_TASKS):
    return search_first(spec, bank or bank_of(random_masks(NUM_TASKS)), k, num_classes=CLASSES)


def images(num_groups: int, num_images: int = 1) -> torch.Tensor:
    draw = np.random.default_rng(2)
    return torch.from_numpy(draw.standard_normal((num_groups, num_images, SHAPES[0][1]))).float()


# --- the independent version: float64 numpy, one image at a time, no code of ours ---


def numpy_gradient(x, masks, weights, objective):
    """Differentiate the objective by alpha at the uniform superposition of ``masks``, by the chain rule."""
    mixed = [w * np.mean([m[i] for m in masks], axis=0) for i, w in enumerate(weights)]
    inputs = [x]
    for w in mixed[:-1]:
        inputs.append(np.maximum(w @ inputs[-1], 0))
    z = mixed[-1] @ inputs[-1]
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    if objective == "H":
        delta = -p * (np.log(p) - (p * np.log(p)).sum())
    else:
        delta = np.where(np.arange(len(z)) < CLASSES, 0, p)
    gradient = np.zeros(len(masks))
    for i in reversed(range(len(weights))):
        outer = np.outer(delta, inputs[i]) * weights[i]
        gradient += [(outer * m[i]).sum() for m in masks]
        delta = (mixed[i].T @ delta) * (inputs[i] > 0)
    return gradient


def numpy_one_shot(x, masks, weights, objective):
    return int(np.argmin(numpy_gradient(x, masks, weights, objective)))


def numpy_binary(x, masks, weights, objective):
    alive = list(range(len(masks)))
    while len(alive) > 1:
        gradient = numpy_gradient(x, [masks[i] for i in alive], weights, objective)
        order = sorted(range(len(alive)), key=lambda i: (gradient[i], i))
        alive = sorted(alive[i] for i in order[: (len(alive) + 1) // 2])
    return alive[0]


@pytest.mark.parametrize("objective", ["H", "G"])
@pytest.mark.parametrize(
    ("algorithm", "independent"), [("one_shot", numpy_one_shot), ("binary", numpy_binary)]
)
def test_an_independent_numpy_version_gives_the_same_tasks_on_1000_images(algorithm, independent, objective):
    masks, weights, x_GND = random_masks(NUM_TASKS), base_weights(), images(1000)
    found = search(InferenceSpec(algorithm=algorithm, objective=objective), bank_of(masks, torch.float64))
    tasks = infer_tasks(found, x_GND.double()).tasks[:, 0]
    expected = [independent(x[0].double().numpy(), masks, weights, objective) for x in x_GND]
    assert tasks.tolist() == expected
    assert len(set(expected)) > 10  # the images do ask for different tasks


# --- end of the independent version ---


def test_images_that_decide_together_and_apart_give_the_same_ranking():
    """``sums`` and ``products`` are two ways to one gradient."""
    spec = InferenceSpec(objective="H")
    bank, x_GND = bank_of(random_masks(NUM_TASKS), torch.float64), images(20).double()
    together = infer_tasks(search(spec, bank), x_GND)
    apart = [infer_tasks(search(spec, bank), x_GND[i : i + 1]) for i in range(20)]
    np.testing.assert_array_equal(together.tasks, np.concatenate([r.tasks for r in apart]))
    np.testing.assert_allclose(together.values, np.concatenate([r.values for r in apart]))


def test_a_group_decides_by_the_mean_of_its_objectives():
    spec = InferenceSpec(objective="G")
    bank, x_GND = bank_of(random_masks(NUM_TASKS), torch.float64), images(1, 30).double()
    one = search(spec, bank)
    activations = one.activations(x_GND[0], one.start)
    expected = bank.products(activations, np.arange(NUM_TASKS)).mean(axis=0)
    found = infer_tasks(search(spec, bank), x_GND)
    np.testing.assert_allclose(found.values[0], np.sort(expected)[:5])


@pytest.mark.parametrize("algorithm", ["one_shot", "binary", "exhaustive", "shortlist"])
@pytest.mark.parametrize("num_groups", [1, 8])
def test_equal_masks_tie_and_the_lower_task_wins(algorithm, num_groups):
    masks = random_masks(1) * 9
    found = infer_tasks(search(InferenceSpec(algorithm=algorithm), bank_of(masks), 9), images(num_groups))
    assert found.tasks.tolist() == [[0, 1, 2, 3, 4]] * num_groups


@pytest.mark.parametrize("algorithm", ["one_shot", "binary", "exhaustive", "shortlist"])
@pytest.mark.parametrize("k", [1, 2, 3, 6, 7])
def test_only_the_first_k_tasks_are_searched_and_ranked_once(algorithm, k):
    ranking = infer_tasks(search(InferenceSpec(algorithm=algorithm), k=k), images(6)).tasks
    assert ranking.shape == (6, min(5, k))
    assert ranking.max() < k
    assert all(len(set(row)) == len(row) for row in ranking.tolist())


def test_exhaustive_takes_the_mask_that_is_surest_alone():
    masks, weights, x_GND = random_masks(NUM_TASKS), base_weights(), images(30)
    for objective in ("H", "G"):
        scores = []
        for x in x_GND[:, 0].double().numpy():
            row = []
            for mask in masks:
                h = x
                for i, w in enumerate(weights):
                    h = (w * mask[i]) @ h
                    h = np.maximum(h, 0) if i < 2 else h
                p = np.exp(h) / np.exp(h).sum()
                row.append(-(p * np.log(p)).sum() if objective == "H" else -h[:CLASSES].max())
            scores.append(row)
        found = infer_tasks(search(InferenceSpec(algorithm="exhaustive", objective=objective)), x_GND)
        assert found.tasks[:, 0].tolist() == np.argmin(scores, axis=1).tolist()


def test_a_shortlist_ranks_its_candidates_exactly_as_one_shot_does():
    """With fewer tasks than candidates nothing can be missed: equal, bit for bit."""
    spec, x_GND = InferenceSpec(algorithm="shortlist", objective="H"), images(1)
    found = infer_tasks(search(spec), x_GND)
    exact = infer_tasks(search(replace(spec, algorithm="one_shot")), x_GND)
    assert found.tasks.tolist() == exact.tasks.tolist()
    assert found.values.tolist() == exact.values.tolist()


@pytest.mark.parametrize("algorithm", ["one_shot", "binary", "exhaustive", "shortlist"])
@pytest.mark.parametrize("num_shards", [1, 2, 4, 30])
def test_shards_answer_as_one_bank_does_bit_for_bit(algorithm, num_shards):
    spec, bank = InferenceSpec(algorithm=algorithm), bank_of(random_masks(NUM_TASKS))
    for x_GND in (images(1), images(9), images(2, 5)):
        whole = infer_tasks(search(spec, bank, 17), x_GND)
        parts = infer_tasks(search(spec, local_shards(bank, num_shards), 17), x_GND)
        assert parts.tasks.tolist() == whole.tasks.tolist()
        assert parts.values.tolist() == whole.values.tolist()


def test_shards_cover_every_task_once():
    assert shard_ranges(10, 4) == [(0, 2), (2, 5), (5, 7), (7, 10)]
    assert shard_ranges(2, 4) == [(0, 1), (1, 2)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_no_numbers_are_refused(value):
    x_GND = images(3)
    x_GND[1, 0, 5] = value
    with pytest.raises(InferenceError, match="not finite"):
        infer_tasks(search(InferenceSpec()), x_GND)


def test_images_of_another_size_are_refused():
    with pytest.raises(InferenceError, match="an image of 63 pixels, the network takes 64"):
        infer_tasks(search(InferenceSpec()), images(3)[:, :, :63])


def test_objective_g_without_superfluous_neurons_is_refused():
    with pytest.raises(InferenceError, match="30 outputs for 30 classes; use objective H"):
        search_first(InferenceSpec(), bank_of(random_masks(2)), 2, num_classes=30)


def test_inference_leaves_nothing_switched():
    """Weights and masks are as they were, and a second answer is that of the first."""
    bank = bank_of(random_masks(NUM_TASKS))
    before = [weight.clone() for weight in bank.base], bank.tiles.copy()
    for algorithm in ("binary", "exhaustive", "shortlist", "one_shot"):
        first = infer_tasks(search(InferenceSpec(algorithm=algorithm), bank), images(5))
        again = infer_tasks(search(InferenceSpec(algorithm=algorithm), bank), images(5))
        assert first.values.tolist() == again.values.tolist()
    assert all(torch.equal(a, b) for a, b in zip(before[0], bank.base, strict=True))
    np.testing.assert_array_equal(bank.tiles, before[1])
    assert bank.packed(np.arange(2)).shape == (2, packed_num_bytes(SHAPES))
