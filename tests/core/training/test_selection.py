"""Exact top-k masks, their layer budgets, and their gradient."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from core.specs.network import MaskSpec
from core.training.selection import kept_by_layer, layer_density, mask_of, num_kept, score_gradient


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32), st.sampled_from([1, 3, 1000]))
def test_top_k_keeps_what_a_full_sort_keeps_ties_by_index(num, kept, seed, levels):
    kept = min(kept, num)
    draw = np.random.default_rng(seed)
    scores = torch.from_numpy(draw.integers(-levels, levels + 1, size=(2, num)).astype(np.float32))
    found = mask_of(scores, kept)
    for row, mask in zip(scores, found, strict=True):
        best = sorted(range(num), key=lambda i: (-abs(float(row[i])), i))[:kept]
        assert set(torch.nonzero(mask)[:, 0].tolist()) == set(best)


@pytest.mark.parametrize(
    ("density", "kept"), [(0.5, 50), (0.1, 10), (0.9, 90), (0.011, 2), (1.0, 100), (1e-9, 1)]
)
def test_the_number_kept_is_rounded_up(density, kept):
    assert num_kept(MaskSpec(rule="top_k", density=density), (10, 10)) == kept


def test_the_erdos_renyi_budget():
    """S * (out + in) / (out * in * kh * kw), at most a half: GEM ResNet-18's layers by hand."""
    spec = MaskSpec(rule="top_k", density_multiplier=4.0)
    assert layer_density(spec, (40, 20, 3, 3)) == pytest.approx(4 * 60 / (40 * 20 * 9))
    assert layer_density(spec, (20, 3, 3, 3)) == pytest.approx(4 * 23 / (20 * 3 * 9))
    assert layer_density(spec, (5, 4)) == 0.5
    shapes = ((20, 3, 3, 3), (5, 160))
    assert kept_by_layer(spec, shapes) == (
        540 - math.floor((1 - 4 * 23 / 540) * 540 + 1e-9),
        800 - math.floor((1 - 0.5) * 800 if 4 * 165 / 800 > 0.5 else 0),
    )


def test_larger_multipliers_keep_more():
    kept = [
        num_kept(MaskSpec(rule="top_k", density_multiplier=float(s)), (80, 40, 3, 3)) for s in (1, 2, 4, 8)
    ]
    assert kept == sorted(set(kept))


def test_the_gradient_goes_through_the_size_of_the_score():
    """As autograd has it for mask(|score|) with the mask's gradient passed on."""
    scores = torch.tensor([[0.3, -0.2, 0.1, -0.5]], requires_grad=True)
    by_mask = torch.tensor([[1.0, 2.0, -3.0, 4.0]])
    size = scores.abs()
    expected = torch.autograd.grad(size, scores, by_mask)[0]
    assert torch.equal(score_gradient(by_mask.clone(), scores.detach(), 2), expected)
    assert torch.equal(score_gradient(by_mask.clone(), scores.detach(), None), by_mask)


@pytest.mark.parametrize(
    "keys",
    [
        {"rule": "top_k"},
        {"rule": "top_k", "density": 0.1, "density_multiplier": 2.0},
        {"rule": "top_k", "density": 0.0},
        {"rule": "top_k", "density": 1.5},
        {"rule": "top_k", "density_multiplier": -1.0},
        {"rule": "threshold", "density": 0.5},
    ],
)
def test_densities_that_mean_nothing_are_refused(keys):
    with pytest.raises(ConfigError, match=r"mask\.density"):
        MaskSpec(**keys)
