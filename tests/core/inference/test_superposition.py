"""The superposition and its gradient with respect to alpha, against autograd on float stacks."""

import numpy as np
import pytest
import torch

from core.errors import InferenceError
from core.inference.objectives import logit_gradient
from core.inference.superposition import (
    MaskBank,
    first_tasks,
    gradient_planes,
    mask_weights,
    pass_through,
    superpose,
    top_k_lowest,
)
from core.masks.bits import pack
from core.masks.packed_sums import to_tiles

WIDTHS = {2: (13, 11, 9), 3: (13, 11, 7, 9), 4: (13, 11, 7, 10, 9)}
CLASSES = 4


def random_bank(num_layers: int, num_tasks: int) -> tuple[MaskBank, list[torch.Tensor]]:
    """Return a float64 bank whose layers do not fill whole bytes, and its masks [K, O, I]."""
    draw, widths = np.random.default_rng(num_layers), WIDTHS[num_layers]
    shapes = [(widths[i + 1], widths[i]) for i in range(num_layers)]
    masks = [draw.random((num_tasks, *shape)) < 0.5 for shape in shapes]
    packed = np.stack([pack([layer[k] for layer in masks]) for k in range(num_tasks)])
    base = tuple(torch.from_numpy(draw.choice([-0.4, 0.4], shape)) for shape in shapes)
    return MaskBank(to_tiles(packed), base), [torch.from_numpy(mask.astype(float)) for mask in masks]


def images(num: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(7).standard_normal((num, WIDTHS[2][0])))


def by_autograd(bank, masks, x_BD, tasks, objective) -> np.ndarray:
    """Gradient of the mean objective with respect to alpha: what the original code computes."""
    alpha = torch.full((len(tasks),), 1 / len(tasks), dtype=torch.float64, requires_grad=True)
    hidden = x_BD
    for layer, (weight, mask) in enumerate(zip(bank.base, masks, strict=True)):
        hidden = hidden @ (weight * torch.einsum("k,koi->oi", alpha, mask[tasks])).T
        hidden = hidden.relu() if layer < len(masks) - 1 else hidden
    if objective == "H":
        value = -(hidden.softmax(1) * hidden.log_softmax(1)).sum(1).mean()
    else:
        held = torch.cat([hidden[:, :CLASSES].detach(), hidden[:, CLASSES:]], dim=1)
        value = held.logsumexp(1).mean()
    return torch.autograd.grad(value, alpha)[0].numpy()


@pytest.mark.parametrize("objective", ["H", "G"])
@pytest.mark.parametrize("num_layers", [2, 3, 4])
@pytest.mark.parametrize("num_images", [1, 6])
def test_the_gradient_from_packed_bits_is_that_of_autograd(objective, num_layers, num_images):
    bank, masks = random_bank(num_layers, 9)
    x_BD = images(num_images)
    for tasks in (first_tasks(bank, 9), first_tasks(bank, 4), np.array([1, 3, 8])):
        superposed = superpose(bank, tasks)
        activations = pass_through(x_BD, superposed.weights, objective, CLASSES)
        planes = gradient_planes(activations, bank.base)
        sums = bank.sums(planes, tasks, np.arange(len(planes)))
        expected = by_autograd(bank, masks, x_BD, tasks, objective)
        np.testing.assert_allclose(sums, expected, rtol=1e-6)
        one_by_one = np.stack([by_autograd(bank, masks, x, tasks, objective) for x in x_BD[:, None]])
        np.testing.assert_allclose(bank.products(activations, tasks), one_by_one, rtol=1e-6)


def test_float32_is_close_enough_to_rank_by():
    bank, masks = random_bank(3, 9)
    single = MaskBank(bank.tiles, tuple(weight.float() for weight in bank.base))
    tasks = first_tasks(bank, 9)
    activations = pass_through(images(1).float(), superpose(single, tasks).weights, "H", CLASSES)
    planes = gradient_planes(activations, single.base)
    expected = by_autograd(bank, masks, images(1), tasks, "H")
    found = single.sums(planes, tasks, np.arange(len(planes)))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_one_hot_alpha_is_the_plain_mask():
    bank, masks = random_bank(3, 5)
    for task in range(5):
        alone = superpose(bank, np.array([task]))
        plain = mask_weights(bank.packed(np.array([task]))[0], bank.base)
        for found, same, weight, mask in zip(alone.weights, plain, bank.base, masks, strict=True):
            assert torch.equal(found, weight * mask[task])
            assert torch.equal(found, same)


def test_the_uniform_superposition_is_the_mean_of_the_masks():
    bank, masks = random_bank(2, 7)
    superposed = superpose(bank, first_tasks(bank, 7))
    for found, weight, mask in zip(superposed.weights, bank.base, masks, strict=True):
        torch.testing.assert_close(found, weight * mask.mean(dim=0))


def test_objective_g_repeats_the_training_gradient_where_no_label_is_needed():
    """Lemma 1: on a superfluous neuron the cross-entropy gradient is softmax(z), whatever the label."""
    logits = images(5)
    labels = torch.tensor([0, 1, 2, 3, 0])
    loss_gradient = logits.softmax(1) - torch.nn.functional.one_hot(labels, logits.shape[1])
    found = logit_gradient(logits, "G", CLASSES)
    torch.testing.assert_close(found[:, CLASSES:], loss_gradient[:, CLASSES:])
    assert not found[:, :CLASSES].any()


def test_ties_go_to_the_lower_task():
    values, tasks = top_k_lowest(np.array([2.0, 1.0, 1.0, 1.0]), np.array([0, 4, 5, 9]), 2)
    assert (values.tolist(), tasks.tolist()) == ([1.0, 1.0], [4, 5])


def test_an_empty_bank_is_refused():
    with pytest.raises(InferenceError, match="the mask bank is empty"):
        MaskBank(np.empty((1, 0, 256), dtype=np.uint8), (torch.ones(2, 3),))


@pytest.mark.parametrize("k", [0, -1, 10])
def test_k_is_a_number_of_tasks_that_there_are(k):
    bank, _ = random_bank(2, 9)
    with pytest.raises(InferenceError, match=f"k: found {k}, expected a number from 1 to 9"):
        first_tasks(bank, k)
