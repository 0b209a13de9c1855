"""Shared by the measurements: the paper's setting and data, and the cost of a training step."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from core.data.datasets import Dataset, load_dataset
from core.networks.base import Layer, base_weights, layers
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import NetworkSpec
from core.specs.run import RunSpec
from core.specs.training import OptimizerSpec, TrainingSpec

NUM_PIXELS = 784


@dataclass(frozen=True)
class Row:
    """A row of the table: the quantity, our figure, its limit, and their ratio."""

    what: str
    ours: str
    limit: str
    ratio: str

    def __str__(self) -> str:
        return f"| {self.what} | {self.ours} | {self.limit} | {self.ratio} |"


def paper_spec(steps: int = 1000, num_tasks: int = 2500, training: TrainingSpec | None = None) -> RunSpec:
    """Return LeNet 300-100 with 500 outputs on PermutedMNIST, RMSProp, batches of 128."""
    return RunSpec(
        seed=0,
        benchmark=BenchmarkSpec(kind="permuted", dataset="mnist", num_tasks=num_tasks),
        network=NetworkSpec(kind="lenet_300_100", outputs=500),
        training=training or TrainingSpec(steps=steps, optimizer=OptimizerSpec(kind="rmsprop")),
    )


def mnist(folder: Path | None) -> tuple[Dataset, str]:
    """Return MNIST, or random images of its size if no folder is given, and a name for either."""
    if folder is not None:
        return load_dataset("mnist", folder), "MNIST"
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (70_000, 28, 28), dtype=np.uint8), draw.integers(0, 10, 70_000)
    made = Dataset(
        name="mnist",
        num_classes=10,
        train_images=images[:60_000],
        train_labels=labels[:60_000],
        test_images=images[60_000:],
        test_labels=labels[60_000:],
        scale=255.0,
        mean=0.1307,
        std=0.3081,
    )
    return made, "random images (accuracy means nothing)"


def network_layers(spec: RunSpec) -> tuple[Layer, ...]:
    """Return the masked layers."""
    return layers(spec.network, NUM_PIXELS)


def base_on(spec: RunSpec, device: torch.device) -> list[torch.Tensor]:
    """Return the base network on ``device``, [O, I] per layer."""
    return [torch.from_numpy(w).to(device) for w in base_weights(spec.network, NUM_PIXELS, seed=spec.seed)]


def step_flop(spec: RunSpec) -> int:
    """Return the FLOP of one task's training step: its products, without an input gradient in layer 0."""
    sizes = [layer.num_weights for layer in network_layers(spec)]
    return 2 * spec.training.batch_size * (3 * sum(sizes) - sizes[0])


def triton_flop(spec: RunSpec) -> int:
    """Return the bfloat16 FLOP of one task's step with the engine ``triton``.

    Operands that are not exact take two products, and the gradient above the first layer three; one each if
    ``matmul`` is bfloat16. Pixels are exact.
    """
    (first, *others), parts = [layer.num_weights for layer in network_layers(spec)], (2, 2, 3)
    if spec.training.matmul == "bfloat16":
        parts = (1, 1, 1)
    return 2 * spec.training.batch_size * (first * (1 + parts[0]) + sum(others) * sum(parts))


def triton_bytes(spec: RunSpec) -> int:
    """Return the bytes that one task's step must move with the engine ``triton``.

    Per weight: float32 score and optimizer state read and written, its bit read forward and, above the
    first layer, backward, and written. Pixels: written, read twice. Hidden values: written, read three times.
    Logits (float32): written, read once. Gradients of outputs: written, read twice, the first layer's once.
    """
    training, shapes = spec.training, network_layers(spec)
    narrow = 2 if training.matmul == "bfloat16" else 4
    weights = sum(
        layer.num_weights * (8 + 2 * training.optimizer.state_bytes + (2 + (index > 0)) / 8)
        for index, layer in enumerate(shapes)
    )
    widths = [layer.shape[0] for layer in shapes]
    values = narrow * (4 * sum(widths[:-1]) + 3 * sum(widths) - widths[0]) + 8 * widths[-1] + 3 * NUM_PIXELS
    return int(weights) + training.batch_size * values


def step_bytes(spec: RunSpec) -> int:
    """Return the bytes that one task's step must move if everything between products is fused.

    Per weight: effective weight read forward and, above the first layer, backward, and written;
    float32 gradient written and read; float32 score and optimizer state read and written. Per
    activation, and its gradient: written once, read twice.
    """
    training, shapes = spec.training, network_layers(spec)
    operand = 2 if training.matmul == "bfloat16" else 4
    total = 0
    for index, layer in enumerate(shapes):
        per_weight = operand * (2 + (index > 0)) + 8 + 8 + 2 * training.optimizer.state_bytes
        total += layer.num_weights * per_weight
    widths = NUM_PIXELS + 2 * sum(layer.shape[0] for layer in shapes)
    return total + 3 * operand * training.batch_size * widths


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median wall time of ``work``, after one warm-up call."""
    work()
    times = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times)


def versions() -> str:
    """Return the relevant versions, for the heading of a table."""
    triton = f", triton {version('triton')}" if find_spec("triton") else ""
    return f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}{triton}"
