"""Methods of task inference on natural images, with the masks of a run, by number of images.

python perf/natural_inference.py RUN (of sweeps/split_cifar100_inference.yaml), SUPSUP_DATA set. Each mask is
applied to each test image and its mirror image. ``z`` standardises by the mask's values on 256 training
images of its own task. ``statistics`` is the Kullback-Leibler divergence (of Gaussians) of a batch's channel
statistics before each normalisation from the task's. Images that decide together are averaged.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.images import images_at_test
from core.batches.inputs import to_device
from core.data.benchmarks import task_view
from core.data.datasets import Dataset, load_dataset
from core.families import family_of
from core.inference.modules import ModuleSearchModel, divergence
from core.inference.objectives import entropy
from core.inference.superposition import mask_weights
from core.networks.module import statistics_slices
from orchestrator.predict import base_tensors
from orchestrator.runs.run import Run, open_run
from storage.mask_store import first_statistics

GROUPS = (1, 8, 32, 128)
NUM_OWN = 256


def main(root: Path) -> None:
    """Print the accuracy of task inference in percent, by method and number of images."""
    run, _ = open_run(root)
    spec, num_tasks = run.config.run_spec(), run.config.benchmark.num_tasks
    statistics = first_statistics(run.store, num_tasks)
    model = family_of(spec.network).search_model(spec, base_tensors(run), statistics)
    packed = [np.frombuffer(mask.bits, dtype=np.uint8) for mask in run.store.iterate(range(num_tasks))]
    dataset = load_dataset(spec.benchmark, Path(os.environ["SUPSUP_DATA"]))
    own = [task_images(run, dataset, task, "train")[:NUM_OWN] for task in range(num_tasks)]
    levels = [_objectives(model, packed[t], t, own[t], run) for t in range(num_tasks)]
    right: dict[tuple[str, int], list[float]] = {}
    for task in range(num_tasks):
        x_NCHW = task_images(run, dataset, task, "test")
        values = [_objectives(model, packed[t], t, x_NCHW, run) for t in range(num_tasks)]
        for method in values[0]:
            by_mask = np.stack([value[method] for value in values], axis=1)
            centre = np.array([level[method].mean() for level in levels])
            spread = np.array([level[method].std() for level in levels])
            for name, scores in ((method, by_mask), (f"{method}, z", (by_mask - centre) / spread)):
                for size in GROUPS:
                    right.setdefault((name, size), []).append(_share(scores, task, size))
        for size in GROUPS[1:]:
            parts = [x_NCHW[i : i + size] for i in range(0, len(x_NCHW) - size + 1, size)]
            distances = np.array(
                [[_distance(model, packed[t], t, part) for t in range(num_tasks)] for part in parts]
            )
            right.setdefault(("statistics", size), []).append(_share(distances, task, 1))
    _print(right)


def task_images(run: Run, dataset: Dataset, task: int, part: str) -> Tensor:
    """Return the images of a task, [N, C, H, W]. part: ``train`` or ``test``."""
    spec = run.config.run_spec()
    view = task_view(spec.benchmark, dataset, task, seed=spec.seed)
    rows = view.test_rows if part == "test" else view.train_rows
    return images_at_test(spec.benchmark, view, to_device(dataset, part, torch.device("cpu")), rows)


def _objectives(
    model: ModuleSearchModel, packed: NDArray[np.uint8], task: int, x_NCHW: Tensor, run: Run
) -> dict[str, NDArray[np.float64]]:
    """Return the objectives of each image under one mask, by method; lower is better."""
    num = run.config.benchmark.real_classes
    plain = model.logits(x_NCHW.flatten(1), packed, task)
    mirrored = model.logits(x_NCHW.flip(3).flatten(1), packed, task)
    found = {}
    for name, logits in (("", (plain,)), (" + mirror", (plain, mirrored))):
        objectives = {
            "H, entropy": [entropy(z) for z in logits],
            "maximum logit": [-z[:, :num].amax(dim=1) for z in logits],
            "E, energy": [-z[:, :num].logsumexp(dim=1) for z in logits],
            "superfluous neurons": [z[:, num:].logsumexp(dim=1) for z in logits],
            "superfluous - real": [z[:, num:].logsumexp(dim=1) - z[:, :num].logsumexp(dim=1) for z in logits],
        }
        for method, z in objectives.items():
            found[f"{method}{name}"] = torch.stack(z).mean(dim=0).double().numpy()
    return found


def _distance(model: ModuleSearchModel, packed: NDArray[np.uint8], task: int, x_NCHW: Tensor) -> float:
    """Return the divergence of a batch's statistics from the task's, averaged over channels and layers."""
    network, statistics_S = model.network, model.statistics[task].clone()
    seen_S = network.start_statistics(torch.device("cpu"))
    with torch.no_grad():
        # One pass moves the running statistics by a tenth, from 0 and 1.
        network.train_logits(x_NCHW, mask_weights(packed, model.base), seen_S)
    start = network.start_statistics(torch.device("cpu"))
    batch_S = start + (seen_S - start) / 0.1
    places = dict(statistics_slices(network.norms))
    distances = []
    for name, _ in network.norms:
        mean, var = places[f"{name}.running_mean"], places[f"{name}.running_var"]
        distances.append(
            divergence(batch_S[None, mean], batch_S[None, var], statistics_S[mean], statistics_S[var])
        )
    return float(torch.stack(distances).mean())


def _share(scores_NK: NDArray[np.float64], task: int, size: int) -> float:
    groups = [scores_NK[i : i + size].mean(axis=0) for i in range(0, len(scores_NK) - size + 1, size)]
    return float((np.stack(groups).argmin(axis=1) == task).mean())


def _print(right: dict[tuple[str, int], list[float]]) -> None:
    print(f"| way | {' | '.join(f'{size} images' for size in GROUPS)} |")
    print(f"| --- |{' --- |' * len(GROUPS)}")
    names = list(dict.fromkeys(name for name, _ in right))
    for name in sorted(names, key=lambda one: -np.mean(right[one, 32])):
        cells = [f"{100 * np.mean(right[name, s]):.1f}" if (name, s) in right else "" for s in GROUPS]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
