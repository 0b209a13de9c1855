"""Which task natural images come from, by channel statistics and energy: shares with intervals, and seconds.

python perf/natural_statistics.py RUN (of sweeps/split_cifar100_inference.yaml), SUPSUP_DATA set. All test
images decide in groups of 1, 8, 32 and 128 that follow one another. Every mask is tried alone, normalised by its
task's running statistics. S: objective ``S``, over the first normalisations; SE: S and E, each standardised over
the masks, added. Seconds: of one decision, one core, median of five.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from natural_inference import GROUPS, task_images
from numpy.typing import NDArray
from torch import Tensor

from core.data.datasets import load_dataset
from core.families import family_of
from core.inference.modules import ModuleSearchModel, divergence
from core.inference.objectives import entropy
from core.inference.search import standardised
from core.inference.superposition import mask_weights
from core.metrics import wilson
from core.networks.module import statistics_slices
from orchestrator.predict import base_tensors
from orchestrator.runs.run import open_run
from storage.mask_store import first_statistics

Scores = NDArray[np.float64]  # [groups, tasks], lower is better


@dataclass(frozen=True)
class Measured:
    """One task's images in groups of one size. divergences: [groups, tasks, normalisations]; the others [groups, tasks]."""

    divergences: NDArray[np.float64]
    energy: Scores
    entropy: Scores


MEASURES: dict[str, Callable[[Measured], Scores]] = {
    "H": lambda m: m.entropy,
    "E": lambda m: m.energy,
    "S, first normalisation": lambda m: m.divergences[:, :, 0],
    "S, first two": lambda m: m.divergences[:, :, :2].mean(axis=2),
    "S, first four": lambda m: m.divergences[:, :, :4].mean(axis=2),
    "S, all": lambda m: m.divergences.mean(axis=2),
    "SE, first two": lambda m: standardised(m.divergences[:, :, :2].mean(axis=2)) + standardised(m.energy),
}


def main(root: Path) -> None:
    """Print two tables: shares of right decisions, and seconds."""
    torch.set_num_threads(1)
    trial = Trial(root)
    by_size: dict[int, list[Measured]] = {size: [] for size in GROUPS}
    for task in range(trial.num_tasks):
        for size, measured in trial.measure(trial.images(task)):
            by_size[size].append(measured)
    print(f"| measure | {' | '.join(f'{size} images' for size in GROUPS)} |\n| --- |{' --- |' * len(GROUPS)}")
    for name, scores_of in MEASURES.items():
        cells = [_cell([scores_of(one).argmin(axis=1) for one in by_size[size]]) for size in GROUPS]
        print(f"| {name} | {' | '.join(cells)} |")
    print(
        f"\n| seconds a decision | {' | '.join(f'{size} images' for size in GROUPS)} |\n| --- |{' --- |' * len(GROUPS)}"
    )
    x_NCHW = trial.images(0)
    for name, one_decision in (("S, first two", trial.statistics), ("E, H or SE", trial.logits)):
        seconds = [_seconds(one_decision, x_NCHW[:size]) for size in GROUPS]
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in seconds)} |")


class Trial:
    """A finished run."""

    def __init__(self, root: Path) -> None:
        self.run, _ = open_run(root)
        run = self.run
        self.spec, self.num_tasks = run.config.run_spec(), run.config.benchmark.num_tasks
        statistics = first_statistics(run.store, self.num_tasks)
        self.model: ModuleSearchModel = family_of(self.spec.network).search_model(
            self.spec, base_tensors(run), statistics
        )
        self.packed = [
            np.frombuffer(m.bits, dtype=np.uint8) for m in run.store.iterate(range(self.num_tasks))
        ]
        self.dataset = load_dataset(self.spec.benchmark, Path(os.environ["SUPSUP_DATA"]))
        self.places = dict(statistics_slices(self.model.network.norms))

    def images(self, task: int) -> Tensor:
        """Return the test images of a task, [N, C, H, W]."""
        return task_images(self.run, self.dataset, task, "test")

    def measure(self, x_NCHW: Tensor) -> Iterator[tuple[int, Measured]]:
        """Yield the measures of images in groups of each size."""
        num_norms = len(self.model.network.norms)
        moments = [self.moments(x_NCHW, mask, num_norms) for mask in range(self.num_tasks)]
        logits = [self.model.logits(x_NCHW.flatten(1), packed, t) for t, packed in enumerate(self.packed)]
        real = self.spec.benchmark.real_classes
        energy = torch.stack([-z[:, :real].logsumexp(dim=1) for z in logits], dim=1)
        unsure = torch.stack([entropy(z) for z in logits], dim=1)
        for size in GROUPS:
            num = len(x_NCHW) // size * size
            grouped = [_grouped(values[:num], size) for values in (energy, unsure)]
            divergences = [
                self._divergences(moments[mask], mask, num, size) for mask in range(self.num_tasks)
            ]
            yield size, Measured(np.stack(divergences, axis=1), *grouped)

    def moments(self, x_NCHW: Tensor, mask: int, num_norms: int) -> list[tuple[str, Tensor, Tensor]]:
        """Return what enters the first normalisations under a mask: name, mean and variance [N, channels]."""
        weights, statistics = mask_weights(self.packed[mask], self.model.base), self.model.statistics[mask]
        return self.model.network.norm_moments(x_NCHW[:, None], weights, statistics, num_norms)

    def statistics(self, x_NCHW: Tensor) -> None:
        """Take the pass of S through the first two normalisations, for every mask."""
        for mask in range(self.num_tasks):
            self.moments(x_NCHW, mask, 2)

    def logits(self, x_NCHW: Tensor) -> None:
        """Take the whole pass, for every mask."""
        for mask, packed in enumerate(self.packed):
            self.model.logits(x_NCHW.flatten(1), packed, mask)

    def _divergences(
        self, moments: list[tuple[str, Tensor, Tensor]], mask: int, num: int, size: int
    ) -> NDArray[np.float64]:
        """Return the divergence of each group at each normalisation, [groups, normalisations]."""
        own, found = self.model.statistics[mask], []
        for name, mean_NC, var_NC in moments:
            means, variances = (values[:num].view(-1, size, values.shape[1]) for values in (mean_NC, var_NC))
            mean = means.mean(dim=1)
            var = (variances + means**2).mean(dim=1) - mean**2
            ends = (self.places[f"{name}.running_{part}"] for part in ("mean", "var"))
            found.append(divergence(mean, var, *(own[place] for place in ends)))
        return torch.stack(found, dim=1).double().numpy()


def _grouped(values_NK: Tensor, size: int) -> NDArray[np.float64]:
    return np.asarray(values_NK.double().view(-1, size, values_NK.shape[1]).mean(dim=1).numpy())


def _cell(found: list[NDArray[np.int64]]) -> str:
    right, num = sum(int((one == task).sum()) for task, one in enumerate(found)), sum(map(len, found))
    low, high = wilson(right / num, num)
    return f"{100 * right / num:.1f} ({100 * low:.0f} to {100 * high:.0f})"


def _seconds(one_decision: Callable[[Tensor], None], x_NCHW: Tensor) -> float:
    times = []
    for _ in range(5):
        started_s = time.perf_counter()
        one_decision(x_NCHW)
        times.append(time.perf_counter() - started_s)
    return median(times)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
