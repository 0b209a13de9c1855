"""Whether rough sums change any answer: all images of a sample, against comparing every mask exactly.

Trains short PermutedMNIST tasks in this process (LeNet 300-100, 500 outputs), then infers test images among
their masks with and without rough sums, for objectives H and G, with the images of a call sharing the reading
of masks (``evaluation``) and each on its own (``Predictor.infer``). The same among masks that are nearly
copies of one another, from 0 to 8 bits apart, where the rough sums cannot tell which is best:

    PYTHONPATH=. python perf/exactness.py /path/to/data --tasks 500 --steps 40 --images 2000
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cases import base_on, mnist, paper_spec, versions

from core.batches.inputs import gather_inputs, to_device
from core.batches.problem import Problem
from core.data.benchmarks import task_view
from core.data.datasets import Dataset
from core.inference.search import Ranking, TaskSearch, infer_each, infer_tasks, search_first
from core.inference.superposition import MaskBank
from core.masks.bits import pack
from core.masks.packed_sums import Tiles, to_tiles
from core.specs.inference import InferenceSpec
from core.specs.run import RunSpec
from core.training.cohort import train_cohort
from core.training.engine import make_step
from orchestrator.runs.record import processor

COHORT = 50
IMAGES_A_CALL = 80  # about the inferences of a task of MNIST
COPIES, MOST_FLIPPED = 10, 8


@dataclass(frozen=True)
class EveryMask(MaskBank):
    """A bank without rough sums."""

    def rough_bank(self, num_tasks: int) -> None:
        """Return None, so that every mask is compared exactly."""


def main() -> None:
    """Print a row for each bank, objective and way of inferring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--masks", type=Path, help="keep the trained masks here, and read them if they exist")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset, _ = mnist(options.data)
    spec = paper_spec(options.steps, options.tasks)
    packed = _packed(spec, dataset, options.masks)
    images = _images(spec, dataset, options.images)
    print(f"{processor()}, {versions()}; {options.tasks} tasks of {options.steps} steps\n")
    print(
        "| masks | objective | inferred | images | right | other tasks | other values | compared whole | seconds |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, masks in (("trained", packed), ("nearly copies", _near_copies(packed))):
        for objective in ("H", "G"):
            for way, infer in (("together", infer_tasks), ("each", infer_each)):
                row = _compare(spec, to_tiles(masks), images, objective, infer)
                print(f"| {name} | {objective} | {way} | {row} |", flush=True)


def _packed(spec: RunSpec, dataset: Dataset, kept: Path | None) -> np.ndarray:
    """Return packed masks of all tasks, trained here unless they are kept, uint8 [K, P]."""
    if kept is not None and kept.exists():
        return np.load(kept)
    problem, step = Problem(spec, dataset), make_step(spec.training, "fused")
    found = []
    for first in range(0, spec.benchmark.num_tasks, COHORT):
        tasks = list(range(first, min(first + COHORT, spec.benchmark.num_tasks)))
        layers = train_cohort(problem, tasks, step=step).masks
        found += [pack([np.asarray(layer[number]) for layer in layers]) for number in range(len(tasks))]
    packed = np.stack(found)
    if kept is not None:
        np.save(kept, packed)
    return packed


def _near_copies(packed: np.ndarray) -> np.ndarray:
    """Return copies of the first masks with up to MOST_FLIPPED bits flipped, some with none, as many as there are."""
    draw, copies = np.random.default_rng(0), np.repeat(packed, COPIES, axis=0)[: len(packed)]
    for mask in copies:
        for bit in draw.integers(0, 8 * mask.size, draw.integers(0, MOST_FLIPPED + 1)):
            mask[bit // 8] ^= np.uint8(1 << (bit % 8))
    return copies


def _images(spec: RunSpec, dataset: Dataset, num_images: int) -> list[tuple[int, torch.Tensor]]:
    """Return (task, images [IMAGES_A_CALL, 1, D]) for tasks drawn at random."""
    draw, pixels, found = np.random.default_rng(0), to_device(dataset, "test", torch.device("cpu")), []
    for task in draw.permutation(spec.benchmark.num_tasks)[: num_images // IMAGES_A_CALL].tolist():
        view = task_view(spec.benchmark, dataset, task, seed=spec.seed)
        rows = torch.from_numpy(draw.choice(view.test_rows, IMAGES_A_CALL, replace=False))
        x_BD = gather_inputs(pixels, torch.from_numpy(view.input_gather)[None], rows[None])[0]
        found.append((task, x_BD.unsqueeze(1)))
    return found


def _compare(
    spec: RunSpec,
    tiles: Tiles,
    images: list[tuple[int, torch.Tensor]],
    objective: str,
    infer: Callable[..., Ranking],
) -> str:
    base, searches = tuple(base_on(spec, torch.device("cpu"))), []
    for bank in (EveryMask(tiles, base), MaskBank(tiles, base)):
        how = InferenceSpec(objective=objective)
        searches.append(search_first(how, bank, bank.num_tasks, num_classes=10))
    counts, seconds = np.zeros(5, dtype=np.int64), np.zeros(2)
    for task, x_GND in images:
        exact, seconds[0] = _timed(searches[0], x_GND, infer, seconds[0])
        quick, seconds[1] = _timed(searches[1], x_GND, infer, seconds[1])
        ended = infer(searches[1], x_GND, own=[task])
        kept = ended.tasks >= 0  # rows that end early are equal as far as they go
        tasks_differ = (exact.tasks != quick.tasks) | (kept & (exact.tasks != ended.tasks))
        values_differ = (exact.values != quick.values) | (kept & (exact.values != ended.values))
        right = (exact.tasks[:, 0] == task).sum()
        counts += [
            len(x_GND),
            right,
            tasks_differ.any(axis=1).sum(),
            values_differ.any(axis=1).sum(),
            quick.num_whole,
        ]
    return " | ".join(map(str, counts.tolist())) + f" | {seconds[0]:.0f} and {seconds[1]:.0f}"


def _timed(
    search: TaskSearch, x_GND: torch.Tensor, infer: Callable[..., Ranking], before_s: float
) -> tuple[Ranking, float]:
    start_s = time.process_time()
    found = infer(search, x_GND)
    return found, before_s + time.process_time() - start_s


if __name__ == "__main__":
    main()
