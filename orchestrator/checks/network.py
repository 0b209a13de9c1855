"""The promises of the user's own network: a pure function, with masks that are the same when trained again."""

import math

import numpy as np

from core.batches.problem import Problem
from core.data.datasets import Dataset, own_scales
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
    spec = _spec(network, options)
    problem = Problem(spec, _images(spec.benchmark))
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
    return RunSpec(
        seed=0,
        benchmark=BenchmarkSpec(
            kind="permuted",
            dataset="made/",
            num_tasks=1,
            num_classes=2,
            shape=options.shape[1:] if options.shape[0] == 1 else options.shape,
        ),
        network=network,
        mask=MaskSpec(rule="top_k", density=0.5),
        training=TrainingSpec(steps=2, batch_size=8, optimizer=OptimizerSpec(kind="adam", lr=1e-3)),
    )


def _images(benchmark: BenchmarkSpec) -> Dataset:
    """Return images of noise, which no network learns: only bits are compared."""
    shape = benchmark.image_shape
    images = stream(0, "synthetic").integers(0, 256, (NUM_IMAGES, *shape)).astype(np.uint8)
    labels = np.arange(NUM_IMAGES) % benchmark.dataset_classes
    scale, mean, std = own_scales(shape)
    return Dataset(
        name="noise",
        num_classes=benchmark.dataset_classes,
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
        scale=scale,
        mean=mean,
        std=std,
    )
