"""The network and data of a run, the argument of all training and evaluation."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from core.batches.inputs import Pixels, to_device
from core.data.benchmarks import TaskView, task_view
from core.data.datasets import Dataset
from core.networks.base import base_weights
from core.networks.module import ModuleNetwork, make_network
from core.specs.run import RunSpec

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Problem:
    """A run's network, data and tasks on a device; data move there at first use."""

    spec: RunSpec
    dataset: Dataset
    device: torch.device = CPU

    @cached_property
    def base(self) -> tuple[Tensor, ...]:
        """The fixed weights, float32 [O, I, ...] per layer. Raises ConfigError."""
        weights = base_weights(self.spec.network, self.spec.benchmark.channels_first, seed=self.spec.seed)
        return tuple(torch.from_numpy(weight).to(self.device) for weight in weights)

    @cached_property
    def module(self) -> ModuleNetwork:
        """The network as a ``torch.nn.Module``, perceptrons included. Raises ConfigError."""
        return make_network(self.spec.network, self.spec.benchmark.channels_first, self.device)

    @cached_property
    def train(self) -> Pixels:
        """The training images."""
        return to_device(self.dataset, "train", self.device)

    @cached_property
    def test(self) -> Pixels:
        """The images to test on, or the training images for a benchmark that tests on validation images."""
        if self.spec.benchmark.test_on == "validation":
            return self.train
        return to_device(self.dataset, "test", self.device)

    def view(self, task: int) -> TaskView:
        """Return the data set as ``task`` sees it."""
        return task_view(self.spec.benchmark, self.dataset, task, seed=self.spec.seed)

    def views(self, tasks: Iterable[int]) -> list[TaskView]:
        """Return the data set as each task sees it."""
        return [self.view(task) for task in tasks]
