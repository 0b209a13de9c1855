"""Networks as pure functions agree with plain PyTorch modules that hold scores of their own."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from core.errors import ConfigError
from core.networks.architectures import perceptron
from core.networks.base import base_weights, draw_weights, layers
from core.networks.module import make_network, read_module
from core.networks.perceptron import gradients
from core.specs.network import MaskSpec, NetworkSpec
from core.training.modules import mask_gradients
from core.training.selection import kept_by_layer, mask_of, score_gradient

CPU = torch.device("cpu")
NETWORKS = {
    "lenet": (NetworkSpec(kind="lenet_300_100", outputs=12), (1, 28, 28), MaskSpec()),
    "conv4": (NetworkSpec(kind="conv4", outputs=12), (3, 16, 16), MaskSpec(rule="top_k", density=0.3)),
    "gem_resnet18": (
        NetworkSpec(kind="gem_resnet18", outputs=5),
        (3, 16, 16),
        MaskSpec(rule="top_k", density_multiplier=8.0),
    ),
}


class Best(torch.autograd.Function):
    """The plain reference: keep the largest |score| by a full sort; the gradient passes through."""

    @staticmethod
    def forward(context, size, kept):
        mask = torch.zeros(size.numel(), dtype=size.dtype)
        order = torch.sort(size.flatten(), descending=True, stable=True).indices
        mask[order[:kept]] = 1
        return mask.view_as(size)

    @staticmethod
    def backward(context, grad):
        return grad, None


class AtLeastZero(torch.autograd.Function):
    @staticmethod
    def forward(context, scores):
        return (scores >= 0).to(scores.dtype)

    @staticmethod
    def backward(context, grad):
        return grad


def plain_weight(weight, kept, scores):
    mask = AtLeastZero.apply(scores) if kept is None else Best.apply(scores.abs(), kept)
    return weight * mask


class Plain(nn.Module):
    """One task's own copy of a module: each masked layer computes its weight from scores it holds."""

    def __init__(self, module, names, base, kept, scores):
        super().__init__()
        self.module = copy.deepcopy(module)
        self.scores = nn.ParameterList([nn.Parameter(s.clone()) for s in scores])
        for name, weight, number, held in zip(names, base, kept, self.scores, strict=True):
            owner = self.module.get_submodule(name.rpartition(".")[0])
            owner.register_forward_pre_hook(partial(self.put_weight, weight, number, held))
            del owner.weight

    @staticmethod
    def put_weight(weight, number, held, owner, inputs):
        owner.weight = plain_weight(weight, number, held)

    def forward(self, x):
        return self.module(x)


def prepared(name, num_tasks, dtype):
    spec, shape, rule = NETWORKS[name]
    network = make_network(spec, shape)
    draw = torch.Generator().manual_seed(5)
    base = [torch.from_numpy(w).to(dtype) for w in draw_weights(network.shapes, seed=2)]
    kept = kept_by_layer(rule, network.shapes)
    scores = [torch.randn(num_tasks, *w.shape, generator=draw, dtype=dtype) for w in base]
    x_KBCHW = torch.randn(num_tasks, 6, *shape, generator=draw, dtype=dtype)
    labels_KB = torch.randint(0, 5, (num_tasks, 6), generator=draw)
    return network, base, kept, scores, x_KBCHW, labels_KB


def ours(network, base, kept, scores, x_KBCHW, labels_KB, *, training, statistics_KS):
    masks = [mask_of(s, k) for s, k in zip(scores, kept, strict=True)]
    grads, loss_K, logits = mask_gradients(
        network, x_KBCHW, labels_KB, base, masks, statistics_KS=statistics_KS, training=training
    )
    grads = [score_gradient(g, s, k) for g, s, k in zip(grads, scores, kept, strict=True)]
    return logits, grads, loss_K


def plain(network, base, kept, scores, x, labels, *, training, statistics_S):
    module = Plain(network.module.to(x.dtype), network.masked, base, kept, scores).train(training)
    start = 0
    for name, channels in network.norms:
        norm = module.module.get_submodule(name)
        norm.running_mean = statistics_S[start : start + channels].clone()
        norm.running_var = statistics_S[start + channels : start + 2 * channels].clone()
        start += 2 * channels
    logits = module(x)
    nn.functional.cross_entropy(logits, labels).backward()
    after = [module.module.get_submodule(name) for name, _ in network.norms]
    statistics = [part for norm in after for part in (norm.running_mean, norm.running_var)]
    return logits.detach(), [s.grad for s in module.scores], torch.cat([torch.empty(0), *statistics])


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_score_gradients_are_those_of_a_plain_module(name, training):
    """In float32 to the bit for the outputs and gradients of one task."""
    network, base, kept, scores, x, labels = prepared(name, 1, torch.float32)
    statistics = network.start_statistics(CPU).repeat(1, 1) * 1.5
    before = statistics[0].clone()
    logits, grads, _ = ours(
        network, base, kept, scores, x, labels, training=training, statistics_KS=statistics
    )
    own = [layer[0] for layer in scores]
    expected, expected_grads, expected_statistics = plain(
        network, base, kept, own, x[0], labels[0], training=training, statistics_S=before
    )
    assert torch.equal(logits[0], expected)
    for found, wanted in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(found[0], wanted, rtol=1e-6, atol=0)
        assert (found != 0).any()
    if network.norms:
        assert torch.equal(statistics[0], expected_statistics)
        assert torch.equal(statistics[0], before) is not training


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_cohort_by_vmap_is_its_tasks_one_by_one(name, training):
    """In float64, where nothing but rounding in the last bits can differ."""
    network, base, kept, scores, x, labels = prepared(name, 3, torch.float64)
    network.module.double()
    statistics = network.start_statistics(CPU).double().repeat(3, 1)
    together = ours(
        network, base, kept, scores, x, labels, training=training, statistics_KS=(s := statistics.clone())
    )
    for k in range(3):
        one = slice(k, k + 1)
        alone = ours(
            network, base, kept, [layer[one] for layer in scores], x[one], labels[one],
            training=training, statistics_KS=(own := statistics[one].clone()),
        )  # fmt: skip
        torch.testing.assert_close(together[0][one], alone[0], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(s[one], own, rtol=1e-11, atol=1e-12)
        for both, single in zip(together[1], alone[1], strict=True):
            torch.testing.assert_close(both[one], single, rtol=1e-9, atol=1e-12)


def test_the_hand_written_step_of_perceptrons_is_the_module_s():
    """LeNet by ``gradients``, K tasks at once, beside the same network as a module."""
    network, base, kept, scores, x, labels = prepared("lenet", 2, torch.float32)
    masks = [mask_of(s, k) for s, k in zip(scores, kept, strict=True)]
    effective = [w * mask for w, mask in zip(base, masks, strict=True)]
    found, loss_K = gradients(x.flatten(2), labels, effective, [None] * 3)
    _, expected, expected_loss = ours(
        network, base, kept, scores, x, labels, training=True,
        statistics_KS=network.start_statistics(CPU).repeat(2, 1),
    )  # fmt: skip
    torch.testing.assert_close(loss_K, expected_loss)
    for grad, weight, wanted in zip(found, base, expected, strict=True):
        torch.testing.assert_close(grad * weight, wanted, rtol=1e-4, atol=1e-7)


def test_the_sizes_are_those_of_the_paper():
    sizes = {
        ("gem_resnet18", 5, (3, 32, 32)): (1_090_940, 1_500),
        ("resnet50", 10, (3, 224, 224)): (23_475_392, 26_560),
    }
    for (kind, outputs, shape), (num_weights, num_channels) in sizes.items():
        network = make_network(NetworkSpec(kind=kind, outputs=outputs), shape)
        assert sum(torch.Size(s).numel() for s in network.shapes) == num_weights
        assert network.num_statistics == 2 * num_channels


def test_base_weights_are_signed_constants_by_fan_in():
    spec = NetworkSpec(kind="gem_resnet18", outputs=5)
    found = layers(spec, (3, 32, 32))
    weights = base_weights(spec, (3, 32, 32), seed=1)
    assert [w.shape for w in weights] == [layer.shape for layer in found]
    assert found[1].name == "blocks.0.convs.0.weight"
    stem, head = weights[0], weights[-1]
    assert abs(stem).min() == abs(stem).max() == pytest.approx((2 / 27) ** 0.5)
    assert abs(head).min() == abs(head).max() == pytest.approx((2 / 160) ** 0.5)
    assert 0.4 < (stem > 0).mean() < 0.6


def test_neither_the_module_nor_the_global_generator_changes():
    state = torch.random.get_rng_state()
    network = make_network(NetworkSpec(kind="gem_resnet18", outputs=5), (3, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), state)
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    base = [torch.from_numpy(w) for w in draw_weights(network.shapes, seed=0)]
    network.train_logits(torch.randn(4, 3, 8, 8), base, network.start_statistics(CPU))
    assert all(torch.equal(value, before[key]) for key, value in network.module.state_dict().items())


class Mixed(nn.Module):
    """What a user may bring: biases, affine normalisation, a buffer of constants."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, groups=1)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean(dim=(2, 3)) * self.scale)


def test_biases_are_zero_and_affine_parts_are_one():
    network = read_module(Mixed(), (1, 8, 8), CPU)
    assert network.masked == ("conv.weight", "head.weight")
    assert {key: (float(v.min()), float(v.max())) for key, v in network.fixed.items()} == {
        "conv.bias": (0, 0), "norm.weight": (1, 1), "norm.bias": (0, 0), "head.bias": (0, 0), "scale": (2, 2),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), "1 is dropout"),
        (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=None)), "momentum None"),
        (nn.Sequential(nn.Linear(3, 2), nn.PReLU()), r"parameter 1\.weight of PReLU"),
        (nn.Sequential(nn.ReLU()), "found no linear or convolution layer"),
    ],
)
def test_modules_that_cannot_be_masked_are_refused(module, words):
    with pytest.raises(ConfigError, match=words):
        read_module(module, (1, 1, 3), CPU)


def test_a_perceptron_as_a_module_has_the_same_layers():
    spec = NetworkSpec(kind="mlp", hidden=(16,), outputs=8)
    module = perceptron(spec, (1, 6, 6))
    assert [tuple(p.shape) for p in module.parameters()] == [layer.shape for layer in layers(spec, 36)]
