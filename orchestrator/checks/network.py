"""The promises of the user's own network: a pure function, with masks that are the same when trained again."""

import math

import numpy as np

from core.batches.problem import Problem
from core.data.datasets import OWN_COLOUR, OWN_GREY, Dataset
from core.errors import ConfigError
from core.networks.base import layers
from core.networks.probe import check_network
from core.seeding import stream
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import MaskSpec, NetworkSpec
from core.specs.run import RunSpec
from core.specs.training import OptimizerSpec, TrainingSpec
from core.train import train_masks
from orchestrator.checks import CheckOptions

NUM_IMAGES = 32


def check_own_network(name: str, options: CheckOptions) -> list[str]:
    """Check a network. name: as in ``network.import_path``. Raises ConfigError."""
    network = NetworkSpec(kind="module", import_path=name, outputs=options.outputs)
    check_network(network, options.shape)
    problem = Problem(_spec(network, options), _images(options))
    first, second = (train_masks(problem, [0]) for _ in range(2))
    if first.packed.tobytes() != second.packed.tobytes():
        raise ConfigError(
            f"{name}: a mask trained twice has other bits the second time; expected a pure function"
        )
    found = layers(network, options.shape)
    num_weights = sum(math.prod(layer.shape) for layer in found)
    return [
        f"a pure function of images {list(options.shape)}, {options.outputs} outputs",
        f"{len(found)} layers with masks, {num_weights:,} weights: {', '.join(layer.name for layer in found[:8])}"
        + (", ..." if len(found) > 8 else ""),
        "a mask trained twice has the same bits",
    ]


def _spec(network: NetworkSpec, options: CheckOptions) -> RunSpec:
    shape = options.shape[1:] if options.shape[0] == 1 else options.shape
    keys = {"num_classes": min(2, options.outputs), "shape": shape}
    return RunSpec(
        seed=0,
        benchmark=BenchmarkSpec(kind="permuted", dataset="made/", num_tasks=1, **keys),  # type: ignore[arg-type]  # as read from YAML
        network=network,
        mask=MaskSpec(rule="top_k", density=0.5),
        training=TrainingSpec(steps=2, batch_size=8, optimizer=OptimizerSpec(kind="adam", lr=1e-3)),
    )


def _images(options: CheckOptions) -> Dataset:
    """Return images of noise, which no network learns: only bits are compared."""
    shape = options.shape[1:] if options.shape[0] == 1 else options.shape
    images = stream(0, "synthetic").integers(0, 256, (NUM_IMAGES, *shape)).astype(np.uint8)
    labels = np.arange(NUM_IMAGES) % min(2, options.outputs)
    scale, mean, std = OWN_COLOUR if len(shape) == 3 else OWN_GREY
    return Dataset(
        name="noise",
        num_classes=min(2, options.outputs),
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
        scale=scale,
        mean=mean,
        std=std,
    )
