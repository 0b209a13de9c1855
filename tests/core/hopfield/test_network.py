"""Masks on outputs: the forward pass, training, recovery from a Hopfield memory, capacity."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.errors import ConfigError
from core.hopfield.capacity import measure_capacity, random_masks
from core.hopfield.memory import memorise
from core.hopfield.network import correct_outputs, forward_masked, task_images, train_outputs
from core.hopfield.projected import num_searches, search_stored
from core.hopfield.recovery import adapting_order, recover, split_images
from core.networks.base import layers, mask_layers
from core.specs.benchmark import BenchmarkSpec
from core.specs.inference import HopfieldSpec
from core.specs.network import NetworkSpec
from core.specs.run import RunSpec
from core.specs.training import OptimizerSpec, TrainingSpec

CPU = torch.device("cpu")
DIGITS = load_dataset("digits")
TASKS = range(5)


def digits_spec(epochs=5, **changes):
    parts = {
        "seed": 0,
        "benchmark": BenchmarkSpec(kind="split", dataset="digits", num_tasks=5),
        "network": NetworkSpec(kind="bn_mlp", hidden=(512, 512), outputs=10),
        "training": TrainingSpec(epochs=epochs, batch_size=32, optimizer=OptimizerSpec(kind="sgd")),
    }
    return RunSpec(**(parts | changes))


def train(spec, tasks=TASKS):
    return train_outputs(Problem(spec, DIGITS), tasks)


@pytest.fixture(scope="module")
def trained():
    return train(digits_spec())


def test_the_network_against_torchs_own_layers():
    torch.manual_seed(0)
    weights = [torch.randn(6, 4), torch.randn(5, 6), torch.randn(3, 5)]
    masks = [(torch.rand(6) < 0.5).float(), (torch.rand(5) < 0.5).float()]
    hidden = x = torch.randn(16, 4)
    for weight, mask in zip(weights[:-1], masks, strict=True):
        norm = torch.nn.BatchNorm1d(len(weight), affine=False, track_running_stats=False)
        hidden = torch.nn.SiLU()(norm(hidden @ weight.T) * mask)
    torch.testing.assert_close(forward_masked(x, weights, masks), hidden @ weights[-1].T)


def test_a_mask_covers_the_outputs_of_every_layer_but_the_last():
    spec = NetworkSpec(kind="bn_fc_2048", outputs=10)
    assert [layer.shape for layer in layers(spec, 784)] == [(2048, 784), (2048, 2048), (10, 2048)]
    assert [(layer.name, layer.shape) for layer in mask_layers(spec, 784)] == [
        ("fc1.output", (2048,)),
        ("fc2.output", (2048,)),
    ]


def test_training_learns_on_images_the_mask_never_saw(trained):
    problem = Problem(digits_spec(), DIGITS)
    correct = correct_outputs(problem, TASKS, trained.masks)
    assert np.mean([part.mean() for part in correct]) > 0.9
    shuffled = [layer[::-1] for layer in trained.masks]  # every task with another's mask, but the middle one
    wrong = correct_outputs(problem, TASKS, shuffled)
    assert np.mean([wrong[task].mean() for task in (0, 1, 3, 4)]) < 0.2


def test_masks_do_not_depend_on_the_tasks_trained_beside_them(trained):
    alone = train(digits_spec(), [3])
    for layer, of_all in zip(alone.masks, trained.masks, strict=True):
        assert np.array_equal(layer[0], of_all[3])


def test_scores_start_at_zero_so_the_first_mask_keeps_everything():
    spec = digits_spec(
        epochs=None,
        training=TrainingSpec(steps=1, batch_size=32, optimizer=OptimizerSpec(kind="sgd", lr=1e-30)),
    )
    # One step of next to nothing: a score is still kept where its gradient is not positive.
    assert 0.2 < np.mean([layer.mean() for layer in train(spec, [0]).masks]) < 0.8


def test_epochs_are_for_masks_on_outputs_and_excluded_by_steps():
    with pytest.raises(ConfigError, match=r"training.epochs: found 1, expected null: network 'mlp'"):
        RunSpec(
            seed=0,
            benchmark=BenchmarkSpec(kind="split", dataset="digits", num_tasks=5),
            network=NetworkSpec(kind="mlp", hidden=(8,), outputs=10),
            training=TrainingSpec(epochs=1),
        )
    with pytest.raises(ConfigError, match=r"training.epochs: found 1, expected null if steps are given"):
        TrainingSpec(steps=5, epochs=1)


def recover_all(trained, spec, hopfield, *, know=True):
    masks = [[layer[task] for layer in trained.masks] for task in TASKS]
    memory, problem = memorise(hopfield.rule, masks), Problem(spec, DIGITS)
    found = []
    for task in TASKS:
        adapted, _ = split_images(hopfield, problem.view(task).test_rows)
        x_NI, _ = task_images(problem, task, problem.test, adapted)
        found.append(recover(hopfield, memory, x_NI, problem.base, masks[task] if know else None))
    return found


HOPFIELD = HopfieldSpec(batch_size=16, lr=200.0, gamma=1.5e-2)  # for layers of 512 in place of 2048


def test_masks_are_recovered_bit_for_bit_from_unlabelled_images(trained):
    found = recover_all(trained, digits_spec(), HOPFIELD)
    assert sum(recovery.is_exact for recovery in found) >= 3
    for task, recovery in enumerate(found):
        assert recovery.hamming[0] > 50  # the mean of five masks is far from each
        assert (len(recovery.hamming), len(recovery.energy), len(recovery.entropy)) == (31, 31, 30)
        if recovery.is_exact:
            assert 0 < recovery.num_steps <= 30
            assert recovery.hamming[recovery.num_steps - 1] > 0
            for layer, true in zip(recovery.mask, trained.masks, strict=True):
                assert np.array_equal(layer, true[task])
            assert recovery.energy[-1] == pytest.approx(literal_energy(trained, task), rel=1e-4)


def literal_energy(trained, task) -> float:
    """E(z) = -0.5 z^T Psi z of a stored mask, summed over layers."""
    masks = [[layer[number] for layer in trained.masks] for number in TASKS]
    z = [2.0 * part - 1 for part in masks[task]]
    layers = memorise(HOPFIELD.rule, masks).layers
    return sum(-0.5 * z_D @ layer.psi @ z_D for z_D, layer in zip(z, layers, strict=True))


PROJECTED = HopfieldSpec(batch_size=16, lr=200.0, gamma=1.5e-2, search="projected", candidates=3)


def test_the_projected_search_finds_each_mask_and_notes_the_steps_of_all_candidates(trained):
    found = recover_all(trained, digits_spec(), PROJECTED)
    assert [recovery.is_exact for recovery in found] == [True] * 5
    for recovery in found:
        assert (len(recovery.hamming), len(recovery.energy), len(recovery.entropy)) == (91, 91, 90)


def test_candidates_are_stored_masks_and_no_more_than_there_are(trained):
    masks = [[layer[task] for layer in trained.masks] for task in range(2)]
    memory, problem = memorise("hebbian", masks), Problem(digits_spec(), DIGITS)
    x_NI, _ = task_images(problem, 0, problem.test, problem.view(0).test_rows)
    batches = [x_NI[:32], x_NI[32:64]] * 4
    found = search_stored(PROJECTED, memory, batches, problem.base, lambda *noted: None)
    assert len(found) == num_searches(PROJECTED, memory) == 2
    for candidate in found:
        for layer, z_D in enumerate(candidate.z):
            assert any(np.array_equal(z_D.numpy() > 0, mask[layer]) for mask in masks)


def test_a_search_with_fewer_steps_than_layers_still_ends_at_corners(trained):
    masks = [[layer[task] for layer in trained.masks] for task in range(3)]
    memory, problem = memorise("storkey", masks), Problem(digits_spec(), DIGITS)
    x_NI, _ = task_images(problem, 0, problem.test, problem.view(0).test_rows)
    hopfield = replace(PROJECTED, steps=1, candidates=1)
    recovery = recover(hopfield, memory, x_NI, problem.base, masks[0])
    assert [len(layer) for layer in recovery.mask] == [512, 512]
    assert len(recovery.entropy) == 1


@pytest.mark.parametrize("hopfield", [HOPFIELD, PROJECTED])
def test_recovery_does_not_look_at_the_true_mask(trained, hopfield):
    knowing = recover_all(trained, digits_spec(), hopfield)
    blind = recover_all(trained, digits_spec(), hopfield, know=False)
    for one, other in zip(knowing, blind, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.mask, other.mask, strict=True))
        assert (other.hamming, other.is_exact, other.num_steps) == (None, None, None)


def test_images_to_adapt_on_and_to_score_are_disjoint_unless_asked_otherwise():
    rows = np.arange(7)
    adapted, scored = split_images(HopfieldSpec(), rows)
    assert sorted([*adapted, *scored]) == list(rows)
    adapted, scored = split_images(HopfieldSpec(adapt_on="same"), rows)
    assert list(adapted) == list(scored) == list(rows)


def test_the_images_that_adapt_are_shuffled_where_asked_and_each_task_has_its_own_order():
    rows = np.arange(0, 200, 2)
    shuffled = HopfieldSpec(order="shuffled")
    first = adapting_order(shuffled, rows, seed=0, task=0)
    assert sorted(first) == list(rows)
    assert list(first) != list(rows)
    assert list(adapting_order(shuffled, rows, seed=0, task=0)) == list(first)
    assert list(adapting_order(shuffled, rows, seed=0, task=1)) != list(first)
    assert list(adapting_order(HopfieldSpec(), rows, seed=0, task=0)) == list(rows)


def test_one_pass_takes_each_image_once(trained):
    hopfield = HopfieldSpec(batch_size=16, adapt_on="same", steps="one_pass")
    found = recover_all(trained, digits_spec(), hopfield)[0]
    num_images = len(Problem(digits_spec(), DIGITS).view(0).test_rows)
    assert len(found.entropy) in (num_images // 16, -(-num_images // 16))


def test_settings_that_differ_have_labels_that_differ():
    specs = [
        HopfieldSpec(),
        HopfieldSpec(rule="hebbian"),
        PROJECTED,
        HopfieldSpec(search="projected"),
        HopfieldSpec(adapt_on="same"),
        HopfieldSpec(steps=20),
        HopfieldSpec(order="shuffled"),
        HopfieldSpec(gamma=1e-2),
        HopfieldSpec(lr=100.0),
    ]
    assert specs[0].label == "hopfield-storkey-disjoint-30"
    assert len({spec.label for spec in specs}) == len(specs)


def test_capacity_falls_when_too_much_is_stored_and_later_for_storkey():
    masks = random_masks(0, 60, [128])
    points = {
        rule: list(measure_capacity(rule, masks, [5, 20, 60], seed=0)) for rule in ("hebbian", "storkey")
    }
    for found in points.values():
        assert [point.num_masks for point in found] == [5, 20, 60]
        assert found[0].held == found[0].found_again == 1
        assert found[2].found_again < 0.5
    assert points["storkey"][1].held > points["hebbian"][1].held


def test_every_layer_must_hold_a_mask():
    """A wide layer that holds everything does not make up for a narrow one that does not."""
    masks = random_masks(0, 20, [1024, 16])
    (point,) = measure_capacity("hebbian", masks, [20], seed=0)
    (wide,) = measure_capacity("hebbian", masks[:1], [20], seed=0)
    assert wide.found_again > 0.9
    assert point.found_again < 0.5
