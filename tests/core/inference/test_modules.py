"""Task inference over modules, beside autograd through explicit alphas; statistics by task."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import ConfigError, InferenceError
from core.inference.modules import ModuleSearchModel
from core.inference.objectives import entropy
from core.inference.search import infer_tasks, search_first
from core.inference.superposition import MaskBank
from core.masks.bits import pack
from core.masks.packed_sums import to_tiles
from core.networks.base import draw_weights
from core.networks.module import make_network
from core.specs.benchmark import BenchmarkSpec
from core.specs.inference import InferenceSpec
from core.specs.network import NetworkSpec

NUM_TASKS = 4
NETWORK = make_network(NetworkSpec(kind="gem_resnet18", outputs=7), (3, 8, 8))
BASE = tuple(torch.from_numpy(w) for w in draw_weights(NETWORK.shapes, seed=1))
DRAW = np.random.default_rng(0)
MASKS = [[DRAW.random(shape) < 0.3 for shape in NETWORK.shapes] for _ in range(NUM_TASKS)]
STATISTICS = torch.stack(
    [NETWORK.start_statistics(torch.device("cpu")) * (1 + 0.1 * task) for task in range(NUM_TASKS)]
)
X_GND = torch.from_numpy(DRAW.normal(size=(3, 5, 3 * 8 * 8)).astype(np.float32))


def search(algorithm, objective="H", norms="batch"):
    bank = MaskBank(to_tiles(np.stack([pack(mask) for mask in MASKS])), BASE)
    benchmark = BenchmarkSpec(kind="split", dataset="cifar100", num_tasks=NUM_TASKS)
    model = ModuleSearchModel(NETWORK, benchmark, BASE, STATISTICS)
    spec = InferenceSpec(algorithm=algorithm, objective=objective, images=5, norms=norms)
    return search_first(spec, bank, NUM_TASKS, num_classes=5, model=model)


def alpha_gradient(x_ND, objective, norms):
    """Autograd through sum_i alpha_i M_i: the definition."""
    alpha = torch.full((NUM_TASKS,), 1 / NUM_TASKS, requires_grad=True)
    weights = [
        base * sum(alpha[k] * torch.from_numpy(MASKS[k][layer]).float() for k in range(NUM_TASKS))
        for layer, base in enumerate(BASE)
    ]
    x_NCHW = x_ND.view(-1, 3, 8, 8)
    run = NETWORK.train_logits if norms == "batch" else NETWORK.logits
    logits = run(x_NCHW, weights, STATISTICS.mean(dim=0))
    if objective == "H":
        value = entropy(logits).mean()
    elif objective == "E":
        value = -logits[:, :5].logsumexp(dim=1).mean()
    else:
        held = torch.cat([logits[:, :5].detach(), logits[:, 5:]], dim=1)
        value = held.logsumexp(dim=1).mean()
    return torch.autograd.grad(value, alpha)[0].numpy()


@pytest.mark.parametrize("norms", ["batch", "running"])
@pytest.mark.parametrize("objective", ["H", "G", "E"])
def test_the_gradient_is_that_of_autograd_through_alpha(objective, norms):
    ranking = infer_tasks(search("one_shot", objective, norms), X_GND)
    for group in range(3):
        expected = alpha_gradient(X_GND[group], objective, norms)
        order = np.argsort(expected)
        assert ranking.tasks[group].tolist() == order.tolist()
        np.testing.assert_allclose(ranking.values[group], expected[order], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("objective", ["H", "G", "E"])
def test_exhaustive_runs_each_mask_with_the_statistics_of_its_task(objective):
    ranking = infer_tasks(search("exhaustive", objective), X_GND)
    for group in range(3):
        scores = []
        for task in range(NUM_TASKS):
            weights = [base * torch.from_numpy(m).float() for base, m in zip(BASE, MASKS[task], strict=True)]
            logits = NETWORK.logits(X_GND[group].view(-1, 3, 8, 8), weights, STATISTICS[task])
            ways = {"H": entropy(logits), "G": -logits[:, :5].amax(1), "E": -logits[:, :5].logsumexp(1)}
            value = ways[objective]
            scores.append(float(value.mean()))
        assert ranking.tasks[group].tolist() == np.argsort(scores).tolist()
        np.testing.assert_allclose(ranking.values[group], np.sort(scores), rtol=1e-4)


def test_binary_ends_with_one_task_and_nothing_else_changes():
    found = infer_tasks(search("binary"), X_GND)
    assert found.tasks.shape == (3, NUM_TASKS)
    assert all(sorted(row) == list(range(NUM_TASKS)) for row in found.tasks.tolist())


def test_an_image_of_another_size_is_refused():
    with pytest.raises(InferenceError, match="an image of 64 pixels, the network takes 192"):
        infer_tasks(search("one_shot"), torch.zeros(1, 1, 64))


def literal_divergence(mask, statistics_S, x_ND) -> float:
    """KL of Gaussians for the first normalisation of GEM ResNet-18, which follows its first convolution."""
    weight = BASE[0] * torch.from_numpy(mask[0])
    z = torch.nn.functional.conv2d(x_ND.view(-1, 3, 8, 8), weight, padding=1).transpose(0, 1).flatten(1)
    mean, std = z.double().mean(dim=1), z.double().std(dim=1, correction=0)
    channels = len(mean)
    own_mean, own_std = (
        statistics_S[:channels].double(),
        statistics_S[channels : 2 * channels].double().sqrt(),
    )
    images = torch.distributions.Normal(mean, std)
    return float(
        torch.distributions.kl_divergence(images, torch.distributions.Normal(own_mean, own_std)).mean()
    )


def test_statistics_are_compared_as_gaussians_group_by_group():
    one = replace(search("exhaustive", "S"), spec=InferenceSpec(**ONE_NORM))
    ranking = infer_tasks(one, X_GND)
    for group, x_ND in enumerate(X_GND):
        expected = [literal_divergence(MASKS[k], STATISTICS[k], x_ND) for k in range(NUM_TASKS)]
        assert ranking.tasks[group].tolist() == np.argsort(expected).tolist()
        np.testing.assert_allclose(ranking.values[group], sorted(expected), rtol=1e-3)


ONE_NORM = {"algorithm": "exhaustive", "objective": "S", "images": 5, "norms_compared": 1}


def test_statistics_and_energy_are_added_once_each_is_standardised():
    def values(objective):
        ranking = infer_tasks(search("exhaustive", objective), X_GND)
        return np.take_along_axis(ranking.values, np.argsort(ranking.tasks, axis=1), axis=1)

    def standard(scores):
        return (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True)

    np.testing.assert_allclose(values("SE"), standard(values("S")) + standard(values("E")), rtol=1e-4)


def test_a_pass_for_statistics_ends_at_the_last_that_are_compared():
    x_GNCHW = X_GND.view(3, 5, 3, 8, 8)
    weights = [base * torch.from_numpy(part) for base, part in zip(BASE, MASKS[0], strict=True)]
    broken = [weights[0], weights[1], *(weight * torch.nan for weight in weights[2:])]
    found = NETWORK.norm_moments(x_GNCHW, broken, STATISTICS[0], 2)
    assert [name for name, _, _ in found] == [name for name, _ in NETWORK.norms[:2]]
    assert all(torch.isfinite(torch.stack(moments)).all() for _, *moments in found)
    assert len(NETWORK.norm_moments(x_GNCHW, weights, STATISTICS[0], 99)) == len(NETWORK.norms)
    assert not any(part._forward_pre_hooks for part in NETWORK.active(training=False).modules())


def test_without_normalisation_statistics_are_refused():
    plain = make_network(NetworkSpec(kind="conv4", outputs=7), (3, 8, 8))
    model = ModuleSearchModel(plain, None, BASE, STATISTICS)
    with pytest.raises(InferenceError, match="the network has none; use objective E"):
        model.divergences(X_GND, None, np.arange(2), 1)
    with pytest.raises(ConfigError, match=r"algorithm: found 'one_shot', expected exhaustive"):
        InferenceSpec(objective="S")
