"""Baselines: what each trains, what it forgets, and that their weights are what their papers say."""

import numpy as np
import pytest
import torch

from core.baselines.batch_ensemble import BatchEnsemble, infer_rank_one
from core.baselines.make import make_method
from core.baselines.method import correct_images, learn_task
from core.baselines.psp import ParameterSuperposition, haar_rotation
from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.errors import ConfigError
from core.inference.objectives import entropy
from core.specs.benchmark import BenchmarkSpec
from core.specs.inference import InferenceSpec
from core.specs.network import NetworkSpec
from core.specs.run import BaselineSpec
from core.specs.training import OptimizerSpec, TrainingSpec
from tests.conftest import tiny_spec

CPU = torch.device("cpu")
DATASET = load_dataset("synthetic")
NUM_TASKS = 3


def problem(kind, steps=60, **more):
    spec = tiny_spec(
        benchmark=BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=NUM_TASKS),
        network=NetworkSpec(kind="mlp", hidden=(16,), outputs=6),
        training=TrainingSpec(steps=steps, batch_size=32, optimizer=OptimizerSpec(kind="adam", lr=1e-2)),
        baseline=BaselineSpec(kind=kind, **more),
    )
    return Problem(spec, DATASET)


def learned(kind, **more):
    of = problem(kind, **more)
    method, values, history = make_method(kind, of), {}, []
    for task in range(NUM_TASKS):
        learn_task(of, method, values, task)
        history.append([correct_images(of, method, values, t).mean() for t in range(task + 1)])
    return of, method, values, history


@pytest.mark.parametrize("kind", ["batch_ensemble", "separate_heads", "upper_bound"])
def test_what_is_fixed_after_the_first_task_forgets_nothing(kind):
    _, _, _, history = learned(kind)
    assert history[2][:2] == history[1]
    assert history[2][0] == history[0][0] > 0.6


@pytest.mark.parametrize("kind", ["lower_bound", "psp"])
def test_one_trunk_for_all_tasks_changes_for_the_earlier_ones(kind):
    of = problem(kind)
    method, values, seen = make_method(kind, of), {}, []
    for task in range(NUM_TASKS):
        learn_task(of, method, values, task)
        seen.append([weight.clone() for weight in method.weights(values, 0)])
    assert correct_images(of, method, values, NUM_TASKS - 1).mean() > 0.8
    assert not torch.equal(seen[0][0], seen[1][0])
    assert not torch.equal(seen[1][0], seen[2][0])
    is_shared = kind == "psp"  # the lower bound has a head for each task, which others leave alone
    assert torch.equal(seen[0][-1], seen[2][-1]) is not is_shared


@pytest.mark.parametrize("kind", ["batch_ensemble", "separate_heads"])
def test_random_weights_stay_as_they_were_drawn(kind):
    of = problem(kind, steps=5, random_weights=True)
    method, values = make_method(kind, of), {}
    method.begin(values, 0)
    name = "w0" if kind == "batch_ensemble" else "trunk0"
    before = values[name].clone()
    learn_task(of, method, values, 0)
    assert torch.equal(values[name], before)
    trained = problem(kind, steps=5)
    learn_task(trained, make_method(kind, trained), values := {}, 0)
    assert not torch.equal(values[name], before)


def test_batch_ensemble_multiplies_inputs_and_outputs_by_the_task_s_vectors():
    of = problem("batch_ensemble")
    method, values = BatchEnsemble(of), {}
    method.begin(values, 0)
    assert set(values["0/in0"].tolist()) <= {-1.0, 1.0}
    x = torch.randn(5, 36)
    expected = values["0/out0"] * ((values["0/in0"] * x) @ values["w0"].T)
    torch.testing.assert_close(x @ method.weights(values, 0)[0].T, expected)


def test_the_gradient_on_rank_one_matrices_is_that_of_autograd():
    of, method, values, _ = learned("batch_ensemble")
    x = torch.randn(8, 1, 6, 6)
    alpha = torch.full((NUM_TASKS,), 1 / NUM_TASKS, requires_grad=True)
    weights = [
        values[f"w{layer}"] * sum(alpha[t] * method.rank_one(values, t, layer) for t in range(NUM_TASKS))
        for layer in range(2)
    ]
    logits = of.module.train_logits(x, weights, of.module.start_statistics(CPU))
    expected = torch.autograd.grad(entropy(logits).mean(), alpha)[0].numpy()
    np.testing.assert_allclose(
        method.alpha_gradient(values, range(NUM_TASKS), x, "H"), expected, rtol=1e-3, atol=1e-6
    )


def test_the_task_is_inferred_on_rank_one_matrices():
    of, method, values, _ = learned("batch_ensemble")
    spec = InferenceSpec(algorithm="one_shot", objective="H", images=128)
    rows = [
        infer_rank_one(of, method, values, spec, task=task, num_tasks=NUM_TASKS, num_batches=None)
        for task in range(NUM_TASKS)
    ]
    assert [of_task.num_images.tolist() for of_task in rows] == [[128, 72]] * NUM_TASKS
    right = [(of_task.inferred_task == task) == (of_task.rank == 1) for task, of_task in enumerate(rows)]
    assert np.all(right)


def test_psp_rotates_the_inputs_by_a_matrix_of_the_task_s_own():
    of = problem("psp")
    method, values = ParameterSuperposition(of), {}
    method.begin(values, 0)
    rotation = haar_rotation(3, 1, 0, 36)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(36), atol=1e-5, rtol=0)
    x = torch.randn(4, 36)
    expected = (x @ rotation.T) @ values["w0"].T
    torch.testing.assert_close(x @ method.weights(values, 1)[0].T, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(rotation, haar_rotation(3, 2, 0, 36))


def test_the_upper_bound_trains_on_all_tasks_so_far():
    of = problem("upper_bound", steps=4)
    method, values = make_method("upper_bound", of), {}
    for task in range(2):
        learn_task(of, method, values, task)
    assert method.courses(1) == [0, 1]
    assert {"0/head0", "1/head0", "1/head1", "1/trunk0"} <= values.keys()
    start = {}
    method.begin(start, 1)
    assert all(not torch.equal(values[f"1/head{t}"], start[f"1/head{t}"]) for t in range(2))


def test_baselines_say_what_they_do_not_have():
    with pytest.raises(ConfigError, match=r"baseline\.random_weights"):
        BaselineSpec(kind="psp", random_weights=True)
    with pytest.raises(ConfigError, match=r"baseline\.first_lr"):
        BaselineSpec(kind="lower_bound", first_lr=0.1)
