"""How near training comes to the matrix-multiply rate of the same core, in the same run.

One LeNet 300-100 task of 100 outputs, one thread, images made here. Prints a Markdown table:
the engines and a plain PyTorch loop (autograd, torch.optim), each as milliseconds a step and
as the share of the sgemm rate that its 6 * weights * batch operations reach.
"""

import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from core.compiler import has_compiler
from core.datasets import Dataset
from core.engine import make_step
from core.inputs import gather_inputs, to_device
from core.networks import base_weights
from core.specs import BenchmarkSpec, Engine, NetworkSpec, RunSpec, TrainingSpec
from core.training import train_cohort
from orchestrator.provenance import processor

STEPS, REPEATS, BATCH = 200, 5, 128
CPU = torch.device("cpu")


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    spec, dataset = _spec(), _dataset()
    weights = base_weights(spec.network, dataset.num_inputs, seed=0)
    flop = 6 * sum(weight.size for weight in weights) * BATCH
    ways: dict[str, Callable[[], float]] = {"plain PyTorch loop": lambda: _plain_loop(spec, dataset)}
    engines: list[Engine] = ["eager", "compiled"] if has_compiler(on_gpu=False) else ["eager"]
    for engine in engines:
        ways[engine] = _engine(spec, dataset, engine)
    print(f"{processor()}, 1 thread, torch {torch.__version__}, Python {platform.python_version()}\n")
    print("| way | ms a step | share of sgemm |\n| --- | --- | --- |")
    for name, way in ways.items():
        way()
        pairs = [(way(), _sgemm_flops()) for _ in range(REPEATS)]
        seconds = statistics.median(step for step, _ in pairs)
        share = statistics.median(flop / step / rate for step, rate in pairs)
        print(f"| {name} | {1000 * seconds:.2f} | {100 * share:.0f} % |")


def _spec() -> RunSpec:
    return RunSpec(
        seed=0,
        benchmark=BenchmarkSpec(kind="permuted", dataset="mnist", num_tasks=1),
        network=NetworkSpec(kind="lenet_300_100", outputs=100),
        training=TrainingSpec(steps=STEPS),
    )


def _dataset() -> Dataset:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (60_000, 28, 28), dtype=np.uint8)
    labels = draw.integers(0, 10, 60_000)
    return Dataset(
        name="mnist",
        num_classes=10,
        train_images=images,
        train_labels=labels,
        test_images=images[:128],
        test_labels=labels[:128],
        scale=255.0,
        mean=0.13,
        std=0.31,
    )


def _engine(spec: RunSpec, dataset: Dataset, engine: Engine) -> Callable[[], float]:
    step = make_step(spec.training.optimizer, engine)
    base = [torch.from_numpy(w) for w in base_weights(spec.network, dataset.num_inputs, seed=0)]
    pixels = to_device(dataset, "train", CPU)
    return lambda: train_cohort(spec, [0], dataset, pixels=pixels, base=base, step=step).train_seconds / STEPS


def _plain_loop(spec: RunSpec, dataset: Dataset) -> float:
    """Train as one would write it first: autograd, straight-through by detach, torch.optim."""
    base = [torch.from_numpy(w) for w in base_weights(spec.network, dataset.num_inputs, seed=0)]
    scores = [(torch.rand_like(w) * 2 - 1).requires_grad_() for w in base]
    optimizer = torch.optim.RMSprop(scores, lr=1e-4)
    pixels = to_device(dataset, "train", CPU)
    gather, draw = torch.randperm(784).unsqueeze(0), torch.randperm(60_000)
    start_s = time.perf_counter()
    for t in range(STEPS):
        rows = draw[t * BATCH : (t + 1) * BATCH]
        hidden = gather_inputs(pixels, gather, rows.unsqueeze(0))[0]
        for layer, (weight, score) in enumerate(zip(base, scores, strict=True)):
            mask = (score >= 0).float() + score - score.detach()
            hidden = hidden @ (weight * mask).T
            hidden = hidden.relu() if layer < len(base) - 1 else hidden
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(hidden, pixels.labels[rows]).backward()
        optimizer.step()
    return (time.perf_counter() - start_s) / STEPS


def _sgemm_flops() -> float:
    """Return the rate, in operations a second, of the first layer's product, the best of 20."""
    x, w = torch.randn(BATCH, 784), torch.randn(784, 300)
    times = []
    for _ in range(20):
        start_s = time.perf_counter()
        torch.mm(x, w)
        times.append(time.perf_counter() - start_s)
    return 2 * BATCH * 784 * 300 / min(times)


if __name__ == "__main__":
    main()
