"""Cohort training: the gradient, the optimizers, and bits that depend on nothing else."""

import os
import subprocess
import sys
import textwrap
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.batches.inputs import gather_inputs, to_device
from core.batches.problem import Problem
from core.data.benchmarks import task_view
from core.data.datasets import load_dataset
from core.errors import TrainingError
from core.inference.evaluation import correct_images
from core.networks.perceptron import fix_weights, gradients
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import NetworkSpec
from core.specs.training import OptimizerSpec, TrainingSpec
from core.training.choose_engine import has_compiler
from core.training.cohort import CohortState, eager_step, image_order, train_cohort
from core.training.engine import make_step
from core.training.loop import Course, mean_loss
from core.training.optimizers import Optimizer
from tests.conftest import tiny_spec

CPU = torch.device("cpu")
DATASET = load_dataset("synthetic")


def train(spec, tasks, engine="eager"):
    return train_cohort(Problem(spec, DATASET), tasks, step=make_step(spec.training, engine))


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_gradients_equal_autograd():
    torch.manual_seed(0)
    x, labels = torch.randn(3, 16, 12), torch.randint(0, 5, (3, 16))
    weights = [torch.randn(3, 9, 12), torch.randn(3, 7, 9), torch.randn(3, 5, 7)]
    grads, loss = gradients(x, labels, weights)
    for k in range(3):
        leaves = [w[k].clone().requires_grad_() for w in weights]
        hidden = torch.relu(torch.relu(x[k] @ leaves[0].T) @ leaves[1].T)
        expected = torch.nn.functional.cross_entropy(hidden @ leaves[2].T, labels[k])
        expected.backward()
        torch.testing.assert_close(loss[k], expected.detach())
        for grad, leaf in zip(grads, leaves, strict=True):
            torch.testing.assert_close(grad[k], leaf.grad)


OPTIMIZERS = [
    (OptimizerSpec(kind="rmsprop"), lambda p: torch.optim.RMSprop(p, lr=1e-4, alpha=0.99, eps=1e-8)),
    (
        OptimizerSpec(kind="rmsprop", lr=0.01, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    ),
    (OptimizerSpec(kind="adam"), lambda p: torch.optim.Adam(p, lr=1e-3)),
    (
        OptimizerSpec(kind="sgd"),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4),
    ),
    (OptimizerSpec(kind="sgd", momentum=0), lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-4)),
]


@pytest.mark.parametrize(("spec", "reference"), OPTIMIZERS, ids=lambda v: getattr(v, "kind", ""))
def test_optimizers_equal_torch(spec, reference):
    torch.manual_seed(1)
    ours = torch.randn(2, 5, 4)
    theirs = ours.clone().requires_grad_()
    other, state, step = (
        reference([theirs]),
        Optimizer(spec).buffers(ours),
        torch.zeros((), dtype=torch.float64),
    )
    assert len(state) == spec.num_buffers
    for _ in range(20):
        grad = torch.randn(2, 5, 4)
        theirs.grad = grad.clone()
        other.step()
        Optimizer(spec).update(ours, grad, state, step.add_(1))
    torch.testing.assert_close(ours, theirs.detach())


def test_one_step_is_straight_through():
    """SGD on one batch moves each score by -lr * dL/d(effective weight) * base weight."""
    spec = OptimizerSpec(kind="sgd", lr=0.5, momentum=0, weight_decay=0)
    base = [torch.tensor([[0.5, -0.5], [0.5, 0.5]])]
    scores = torch.tensor([[[0.1, -0.2], [-0.3, 0.4]]])
    effective = torch.where(scores >= 0, base[0], 0.0)
    state = CohortState([scores.clone()], [effective.clone()], [()], torch.zeros((), dtype=torch.float64))
    pixels = to_device(DATASET, "train", CPU)
    gather, rows = torch.tensor([[4, 9]]), torch.tensor([[0]])
    label = int(pixels.labels[0]) % 2
    pixels = type(pixels)(pixels.images, pixels.labels % 2, pixels.gain, pixels.offset)
    eager_step(Optimizer(spec))(pixels, gather, rows, fix_weights(base, "float32"), state)
    x = gather_inputs(pixels, gather, rows)[0, 0]
    p = torch.softmax(effective[0] @ x, 0)
    p[label] -= 1
    torch.testing.assert_close(state.scores[0][0], scores[0] - 0.5 * torch.outer(p, x) * base[0])


def test_bits_do_not_depend_on_the_tasks_trained_beside():
    spec = tiny_spec()
    together = train(spec, range(5))
    for tasks in ([0], [3], [2, 3], [4, 1, 0]):
        apart = train(spec, tasks)
        for k, task in enumerate(tasks):
            assert same([m[k] for m in apart.masks], [m[task] for m in together.masks])


def test_task_1_is_the_same_with_num_tasks_2_and_3():
    def first_tasks(num_tasks):
        benchmark = BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=num_tasks)
        return train(tiny_spec(benchmark=benchmark), range(num_tasks))

    assert same([m[1] for m in first_tasks(2).masks], [m[1] for m in first_tasks(3).masks])


def test_seeds_and_tasks_give_different_masks():
    two = train(tiny_spec(), [0, 1])
    assert not same([m[0] for m in two.masks], [m[1] for m in two.masks])
    assert not same(train(tiny_spec(seed=4), [0]).masks, [m[:1] for m in two.masks])


@pytest.mark.parametrize("kind", ["permuted", "rotated", "split"])
def test_every_benchmark_is_learned(kind):
    """On images the mask never saw, far above the chance of 1 in 4 (or 1 in 2)."""
    benchmark = BenchmarkSpec(kind=kind, dataset="synthetic", num_tasks=2)
    spec = tiny_spec(
        benchmark=benchmark, training=TrainingSpec(steps=300, batch_size=32, optimizer=OptimizerSpec(lr=3e-3))
    )
    problem, result = Problem(spec, DATASET), train(spec, [0, 1])
    for task in (0, 1):
        masks = [layer[task : task + 1] for layer in result.masks]
        assert correct_images([problem.view(task)], problem.test, problem.base, masks)[0].mean() > 0.9


def test_each_epoch_uses_every_image_once():
    spec = tiny_spec(training=TrainingSpec(steps=70, batch_size=16))
    order = image_order(spec, 0, task_view(spec.benchmark, DATASET, 0, seed=0), 70 * 16)
    assert len(order) == 70 * 16
    assert sorted(order[:512]) == sorted(order[512:1024]) == list(range(512))
    assert not np.array_equal(order[:512], order[512:1024])


def test_the_shared_data_are_never_written():
    """Training on arrays marked read-only, as Ray's object store gives them, changes no byte."""
    for array in (DATASET.train_images, DATASET.train_labels):
        array.flags.writeable = False
    before = DATASET.train_images.tobytes()
    train(tiny_spec(), [0])
    assert DATASET.train_images.tobytes() == before


def test_a_loss_that_is_not_finite_names_the_task():
    with pytest.raises(TrainingError, match="the loss of task 2 is not finite"):
        mean_loss([1, 2], Course(losses=deque([torch.tensor([0.5, float("nan")])])))


@pytest.mark.parametrize(
    ("engine", "missing", "used"),
    [
        ("compiled", {"CXX": "/nonexistent"}, "fused"),
        ("fused", {"SUPSUP_NO_NUMBA": "1"}, "eager"),
        ("compiled", {"CXX": "/nonexistent", "SUPSUP_NO_NUMBA": "1"}, "eager"),
        ("triton", {"TRITON_INTERPRET": "0"}, "fused"),  # needs a GPU
    ],
)
def test_a_worker_whose_engine_cannot_run_takes_another_and_says_so(tmp_path, engine, missing, used):
    """In a process of its own, without numba, or where the C++ compiler is a file that does not exist."""
    code = """
        import sys, pathlib
        from core.data.datasets import load_dataset
        from orchestrator.config.load import load_sweep
        from orchestrator.runs.run import locate_run
        from orchestrator.sweep import run_sweep
        from tests.conftest import sweep_text
        from tests.orchestrator.fakes import Recorder
        folder, engine = pathlib.Path(sys.argv[1]), sys.argv[2]
        (folder / "s.yaml").write_text(sweep_text(folder / "runs", executor="{kind: inline, engine: %s}" % engine))
        config, display = load_sweep(folder / "s.yaml"), Recorder()
        run_sweep(config, None, display)
        store = locate_run(config).store
        print(store.provenance(store.files()[0])["engine"], display.messages.count("continuing with"))
    """
    environment = {**os.environ, **missing, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.splitlines()[-1:] == [f"{used} 1"], done.stderr


@pytest.mark.parametrize(("optimizer", "_reference"), OPTIMIZERS, ids=lambda v: getattr(v, "kind", ""))
@pytest.mark.parametrize("kind", ["permuted", "rotated"])
def test_fused_gives_the_bits_of_the_reference(optimizer, _reference, kind):
    """Masks; losses but for rounding; odd sizes and blank pixels included; tasks one at a time."""
    spec = tiny_spec(
        benchmark=BenchmarkSpec(kind=kind, dataset="synthetic", num_tasks=3),
        network=NetworkSpec(kind="mlp", hidden=(33, 17), outputs=11),
        training=TrainingSpec(steps=150, batch_size=21, optimizer=optimizer),
    )
    fused = train(spec, range(3), "fused")
    for task in range(3):
        eager = train(spec, [task])
        assert same(eager.masks, [mask[task : task + 1] for mask in fused.masks])
        np.testing.assert_allclose(eager.train_loss[0], fused.train_loss[task], rtol=1e-5)


@pytest.mark.parametrize("num_tasks", [2, 7])
def test_fused_gives_the_bits_of_a_cohort_of_the_reference(num_tasks):
    spec = tiny_spec()
    eager, fused = train(spec, range(num_tasks)), train(spec, range(num_tasks), "fused")
    assert same(eager.masks, fused.masks)
    np.testing.assert_allclose(eager.train_loss, fused.train_loss, rtol=1e-5)


def test_a_state_in_bfloat16_is_half_the_bytes_and_nearly_the_same_training():
    spec = tiny_spec()
    narrow = replace(spec.training.optimizer, state="bfloat16")
    assert Optimizer(narrow).buffers(torch.zeros(3))[0].dtype == torch.bfloat16
    assert (spec.training.optimizer.state_bytes, narrow.state_bytes) == (4, 2)
    wide, less = (
        train(tiny_spec(training=replace(spec.training, optimizer=o)), [0, 1])
        for o in (spec.training.optimizer, narrow)
    )
    assert not same(wide.masks, less.masks)
    np.testing.assert_allclose(wide.train_loss, less.train_loss, rtol=0.1)


def test_products_in_bfloat16_use_exact_weights():
    """The gradient is that of the float32 network, up to the rounding of activations."""
    torch.manual_seed(0)
    base = [torch.randn(9, 12).sign() * 0.3, torch.randn(5, 9).sign() * 0.7]
    masks = [torch.rand(2, *w.shape) < 0.5 for w in base]
    x, labels = torch.randn(2, 16, 12), torch.randint(0, 5, (2, 16))
    found = {}
    for matmul in ("float32", "bfloat16"):
        fixed = fix_weights(base, matmul)
        effective = [w * m for w, m in zip(fixed.operand, masks, strict=True)]
        found[matmul] = gradients(x, labels, effective, fixed.gains)
    assert all(set(w.unique().tolist()) <= {-1.0, 0.0, 1.0} for w in effective)
    for narrow, wide in zip(found["bfloat16"][0], found["float32"][0], strict=True):
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, wide, rtol=0.05, atol=0.003)
    torch.testing.assert_close(found["bfloat16"][1], found["float32"][1], rtol=0.01, atol=0)


@pytest.mark.parametrize("matmul", ["tf32", "bfloat16"])
def test_every_precision_learns(matmul):
    training = TrainingSpec(steps=300, batch_size=32, matmul=matmul, optimizer=OptimizerSpec(lr=3e-3))
    spec = tiny_spec(training=training)
    problem, result = Problem(spec, DATASET), train(spec, [0])
    assert correct_images([problem.view(0)], problem.test, problem.base, result.masks)[0].mean() > 0.9


@pytest.mark.skipif(not has_compiler(on_gpu=False), reason="needs a C++ compiler (g++)")
@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecations
def test_compiled_masks_equal_eager_ones_to_1_bit_in_1000():
    spec = tiny_spec(network=NetworkSpec(kind="mlp", hidden=(64, 32), outputs=16))
    eager, compiled = train(spec, range(3)), train(spec, range(3), "compiled")
    num_bits = sum(m.size for m in eager.masks)
    differ = sum(int((a != b).sum()) for a, b in zip(eager.masks, compiled.masks, strict=True))
    assert differ <= num_bits / 1000
    np.testing.assert_allclose(eager.train_loss, compiled.train_loss, rtol=1e-3)
