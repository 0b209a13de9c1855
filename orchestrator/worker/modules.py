"""A worker's part of networks that are modules: training, testing and inference with statistics by task."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from core.batches.inputs import Pixels
from core.data.benchmarks import task_view
from core.data.datasets import Dataset
from core.inference.modules import ModuleSearchModel
from core.masks.bits import pack
from core.networks.module import ModuleNetwork, make_network
from core.specs.run import RunSpec
from core.training.cohort import CohortResult
from core.training.loop import Checkpointer
from core.training.modules import train_modules
from core.training.transfer import Earlier
from storage.mask_store import MaskStore, TaskMask


@dataclass(frozen=True)
class ModuleWork:
    """One network on one device. base: the fixed weights there. pixels: train and test."""

    spec: RunSpec
    dataset: Dataset
    network: ModuleNetwork
    base: tuple[torch.Tensor, ...]
    pixels: tuple[Pixels, Pixels]

    def train(
        self, tasks: Sequence[int], checkpointer: Checkpointer, earlier: Earlier | None
    ) -> CohortResult:
        """Train the masks of ``tasks``."""
        return train_modules(
            self.spec,
            tasks,
            self.dataset,
            pixels=self.pixels[0],
            base=self.base,
            network=self.network,
            checkpointer=checkpointer,
            earlier=earlier,
        )

    def correct_trained(self, result: CohortResult) -> list[NDArray[np.bool_]]:
        """Tell for each test image of each task whether its mask classifies it."""
        assert result.statistics is not None, "modules return statistics"
        packed = [pack([layer[k] for layer in result.masks]) for k in range(len(result.tasks))]
        return self._correct(result.tasks, packed, result.statistics)

    def correct_stored(self, masks: Sequence[TaskMask]) -> list[NDArray[np.bool_]]:
        """Tell the same of stored masks."""
        packed = [np.frombuffer(mask.bits, dtype=np.uint8) for mask in masks]
        return self._correct([mask.task for mask in masks], packed, _statistics(masks))

    def model(self, store: MaskStore, num_tasks: int) -> ModuleSearchModel:
        """Return what task inference among the first tasks asks of the network."""
        return make_search_model(self.spec, self.network, self.base, store, num_tasks)

    def _correct(
        self, tasks: Sequence[int], packed: Sequence[NDArray[np.uint8]], statistics_KS: NDArray[np.float32]
    ) -> list[NDArray[np.bool_]]:
        on_device = torch.from_numpy(statistics_KS).to(self.base[0].device)
        model = ModuleSearchModel(self.network, self.spec.benchmark, self.base, on_device)
        views = [task_view(self.spec.benchmark, self.dataset, task, seed=self.spec.seed) for task in tasks]
        return [
            model.correct(view, self.pixels[1], view.test_rows, packed_P, k)
            for k, (view, packed_P) in enumerate(zip(views, packed, strict=True))
        ]


def make_search_model(
    spec: RunSpec,
    network: ModuleNetwork,
    base: Sequence[torch.Tensor],
    store: MaskStore,
    num_tasks: int,
) -> ModuleSearchModel:
    """Return how images pass through ``network``, with the statistics of the first tasks of a store."""
    statistics = torch.from_numpy(_statistics(list(store.iterate(range(num_tasks)))))
    return ModuleSearchModel(network, spec.benchmark, tuple(base), statistics.to(base[0].device))


def built_network(spec: RunSpec, device: torch.device) -> ModuleNetwork:
    """Return the network of a run. Raises ConfigError."""
    return make_network(spec.network, spec.benchmark.channels_first, device)


def _statistics(masks: Sequence[TaskMask]) -> NDArray[np.float32]:
    return np.stack([np.frombuffer(mask.norm_stats or b"", dtype="<f4") for mask in masks]).astype(np.float32)
