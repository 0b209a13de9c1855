"""The span of stored masks, read from Psi by either rule, and the way to a stored mask."""

import numpy as np
import pytest
import torch

from core.hopfield.capacity import random_masks
from core.hopfield.memory import memorise, signs
from core.hopfield.span import nearest_stored, project, span_of

WIDTH, NUM = 256, 12


def alike_masks(seed=0):
    """Return masks that share a quarter of their bits, as trained ones do."""
    (common,) = random_masks(seed, 1, [WIDTH])
    (masks,) = random_masks(seed + 1, NUM, [WIDTH])
    masks[:, : WIDTH // 4] = common[0, : WIDTH // 4]
    return masks


def span(rule, masks):
    (layer,) = memorise(rule, [[mask] for mask in masks]).layers
    return torch.from_numpy(span_of(layer, len(masks)))


@pytest.mark.parametrize("rule", ["storkey", "hebbian"])
def test_the_span_is_that_of_the_masks_whatever_the_rule(rule):
    masks = alike_masks()
    span_DK = span(rule, masks)
    torch.testing.assert_close(span_DK.T @ span_DK, torch.eye(NUM), atol=1e-4, rtol=0)
    for mask in masks:
        z_D = torch.from_numpy(signs(mask))
        torch.testing.assert_close(project(span_DK, z_D), z_D, atol=1e-3, rtol=0)


def test_masks_stored_twice_do_not_widen_the_span():
    masks = alike_masks()
    assert span("hebbian", [*masks, *masks]).shape == (WIDTH, NUM)


@pytest.mark.parametrize("rule", ["storkey", "hebbian"])
def test_the_largest_part_of_a_mixture_wins(rule):
    masks = alike_masks()
    z_ND = torch.from_numpy(np.stack([signs(mask) for mask in masks]))
    span_DK = span(rule, masks)
    for first in range(NUM):
        mixture = 0.5 * z_ND[first] + 0.4 * z_ND[(first + 1) % NUM] + 0.4 * z_ND[(first + 2) % NUM]
        assert torch.equal(nearest_stored(span_DK, mixture), z_ND[first])


def test_the_sign_of_a_mixture_is_left_again():
    """Following the fields, such a mixture is a fixed point of the memory; here it is none."""
    (masks,) = random_masks(3, NUM, [WIDTH])
    z_ND = torch.from_numpy(np.stack([signs(mask) for mask in masks]))
    found = nearest_stored(span("storkey", masks), (z_ND[0] + z_ND[1] + z_ND[2]).sign())
    assert any(torch.equal(found, z_D) for z_D in z_ND)
