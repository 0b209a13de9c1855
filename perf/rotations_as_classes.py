"""Masks that are also trained to tell how an image is turned: what that brings for finding the task, per image.

python perf/rotations_as_classes.py FOLDER --sweep split_mnist --seeds 0 1 2, SUPSUP_DATA set. FOLDER gets the data
sets and the run folders; the same command resumes. Two runs for each seed, with the same base network, tasks, number
of steps and number of outputs: ``plain``, and ``rotated``, where every training image is seen turned by 0, 90, 180 and
270 degrees and class c turned r times is output c + r * l, with l real classes (``turned_images``). So the first l
outputs are those of upright images, and rotations are superfluous neurons that are trained.

A mask is tried alone on upright test images; of four views, one for each rotation, the outputs of the view's own
rotation count. Images that decide together follow one another, and their scores are averaged.

Letters: N images, O outputs, R rotations, L real classes, C, H, W channels, height, width, T tasks.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from natural_inference import GROUPS
from numpy.typing import NDArray
from torch import Tensor
from turned_images import class_order, turned_arrays

import supsup
from core.batches.images import images_at_test, task_labels
from core.families import family_of
from core.inference.objectives import plain_score
from core.metrics import wilson
from core.training.modules import num_steps
from orchestrator.config.load import config_values
from orchestrator.predict import base_tensors
from orchestrator.runs.run import open_run
from storage.mask_store import first_statistics

SWEEPS = ("split_mnist", "split_cifar100_inference")
ARMS = {"plain": 1, "rotated": 4}  # rotations
KEPT = ("network", "mask", "training")  # sections of the sweep


@dataclass(frozen=True)
class Measure:
    """How a mask's outputs on the views of images [R, N, O] become scores; higher is better.

    task: the score of the mask [N]. classes: the scores of its L classes [N, L].
    """

    task: Callable[[Tensor, int], Tensor]
    classes: Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Answers:
    """On one task's test images. given: by way of naming the class, whether it is right [N], with the task given.

    scores: by measure, [N, T]. classes: by measure, the class under each mask [N, T]. labels: [N].
    """

    task: int
    given: dict[str, NDArray[np.bool_]]
    scores: dict[str, NDArray[np.float64]]
    classes: dict[str, NDArray[np.int64]]
    labels: NDArray[np.int64]


def upright(z_RNO: Tensor, num_real: int) -> Tensor:
    """Return the logits of the real classes of images that are not turned, [N, L]."""
    return z_RNO[0, :, :num_real]


def shares(z_RNO: Tensor, num_real: int) -> Tensor:
    """Return their log-probabilities among all outputs, [N, L]."""
    return upright(z_RNO.log_softmax(dim=2), num_real)


def four_views(z_RNO: Tensor, num_real: int) -> Tensor:
    """Return the mean over views of the logits of the view's own rotation, [N, L]."""
    views = [z_NO[:, r * num_real : (r + 1) * num_real] for r, z_NO in enumerate(z_RNO)]
    return torch.stack(views).mean(dim=0)


def four_shares(z_RNO: Tensor, num_real: int) -> Tensor:
    """Return the mean over views of the probabilities of the view's own rotation, [N, L]."""
    return four_views(z_RNO.softmax(dim=2), num_real)


def rotation_told(z_RNO: Tensor, num_real: int) -> Tensor:
    """Return the mean over views of the log-probability of the view's own rotation, all classes together, [N]."""
    log_p = z_RNO.log_softmax(dim=2)
    told = [p_NO[:, r * num_real : (r + 1) * num_real].logsumexp(dim=1) for r, p_NO in enumerate(log_p)]
    return torch.stack(told).mean(dim=0)


def _highest(classes: Callable[[Tensor, int], Tensor]) -> Measure:
    return Measure(lambda z, num: classes(z, num).amax(dim=1), classes)


UPRIGHT = {
    "entropy, H": Measure(lambda z, num: -plain_score(z[0], "H", num), upright),
    "maximum logit, G": Measure(lambda z, num: -plain_score(z[0], "G", num), upright),
    "energy, E": Measure(lambda z, num: -plain_score(z[0], "E", num), upright),
    "highest softmax": _highest(shares),
}
TURNED = {
    "four views, highest logit (CSI)": _highest(four_views),
    "four views, highest softmax": _highest(four_shares),
    "four views, energy": Measure(lambda z, num: four_views(z, num).logsumexp(dim=1), four_views),
    "four views, rotation told": Measure(rotation_told, four_views),
}
MEASURES = {"plain": UPRIGHT, "rotated": UPRIGHT | TURNED}
GIVEN = {"plain": {"one view": upright}, "rotated": {"one view": upright, "four views": four_views}}


def main(folder: Path, sweep: str, seeds: Sequence[int], times: int, num_tasks: int | None) -> None:
    """Train what is missing and print two tables in Markdown: with the task given, and without.

    num_tasks: the first of the sweep's tasks; None: all.
    """
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[list[Answers]]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        config = supsup.load_sweep(sweep, seed=seed)
        num = num_tasks or config.benchmark.num_tasks
        for arm, rotations in ARMS.items():
            root = trained(folder, f"{sweep}_{arm}", config, rotations=rotations, times=times, num_tasks=num)
            found[arm].append(list(Trial(root, rotations, num).answers(MEASURES[arm], GIVEN[arm])))
    _print_given(found)
    _print_found(found)


def trained(
    folder: Path, name: str, config: supsup.SweepConfig, *, rotations: int, times: int, num_tasks: int
) -> Path:
    """Return the finished run of one arm. times: how often the sweep's number of steps it trains."""
    problem = supsup.make_problem(config)
    spec, task_0 = problem.spec, problem.view(0)
    steps, num_real = times * num_steps(spec.training, task_0), spec.benchmark.real_classes
    # No crop is trained twice.
    drawn = math.ceil(steps * spec.training.batch_size / (rotations * len(task_0.train_rows)))
    num_crops = drawn if spec.benchmark.augment else 1
    file = folder / f"{name}-{spec.seed}-{num_crops}.npz"
    if not file.exists():
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **turned_arrays(problem, rotations, num_crops))
        partial.rename(file)
    values = {key: value for key, value in config_values(config).items() if key in KEPT}
    values["network"]["outputs"] = max(config.network.outputs, max(ARMS.values()) * num_real)
    values["training"] |= {"steps": steps, "epochs": None}
    run = supsup.run(
        values
        | {
            "name": name,
            "seed": spec.seed,
            "data_dir": str(folder),
            "benchmark": {
                "kind": "split",
                "dataset": file.name,
                "num_tasks": num_tasks,
                "augment": False,
                "labels": spec.benchmark.labels,
                "class_order": class_order(problem, rotations),
                "classes_per_task": rotations * (spec.benchmark.classes_per_task or 0),
            },
            "evaluation": {"scenarios": ["GG"]},
            "executor": {"kind": "inline"},
            "storage": {"uri": str(folder / "runs")},
            "tracking": {"uri": None},
        },
        quiet=True,
    )
    return Path(str(run.folder))


class Trial:
    """A finished run of one arm."""

    def __init__(self, root: Path, rotations: int, num_tasks: int) -> None:
        self.run, _ = open_run(root)
        spec = self.run.config.run_spec()
        self.problem = supsup.make_problem(self.run.config)
        self.rotations, self.num_tasks = rotations, num_tasks
        self.num_real = spec.benchmark.real_classes // rotations
        statistics = first_statistics(self.run.store, num_tasks)
        self.model = family_of(spec.network).search_model(spec, base_tensors(self.run), statistics)
        self.packed = [
            np.frombuffer(mask.bits, dtype=np.uint8) for mask in self.run.store.iterate(range(num_tasks))
        ]

    def upright_images(self, task: int) -> tuple[Tensor, NDArray[np.int64]]:
        """Return a task's test images that are not turned, [N, C, H, W], and their labels."""
        view, pixels = self.problem.view(task), self.problem.test
        labels = task_labels(view, pixels, torch.from_numpy(view.test_rows)).numpy()
        kept = labels < self.num_real
        x_NCHW = images_at_test(self.problem.spec.benchmark, view, pixels, view.test_rows[kept])
        return x_NCHW, labels[kept]

    def logits(self, x_NCHW: Tensor, mask: int) -> Tensor:
        """Return the logits of the images turned in each way, [R, N, O]."""
        turned = [torch.rot90(x_NCHW, r, dims=(2, 3)).flatten(1) for r in range(self.rotations)]
        return torch.stack([self.model.logits(x_ND, self.packed[mask], mask) for x_ND in turned])

    def answers(
        self, measures: dict[str, Measure], given: dict[str, Callable[[Tensor, int], Tensor]]
    ) -> Iterator[Answers]:
        """Yield what all masks say about the test images of each task."""
        for task in range(self.num_tasks):
            x_NCHW, labels = self.upright_images(task)
            z = [self.logits(x_NCHW, mask) for mask in range(self.num_tasks)]
            yield Answers(
                task=task,
                labels=labels,
                given={
                    name: classes(z[task], self.num_real).argmax(dim=1).numpy() == labels
                    for name, classes in given.items()
                },
                scores={
                    name: torch.stack([m.task(one, self.num_real) for one in z], dim=1).double().numpy()
                    for name, m in measures.items()
                },
                classes={
                    name: torch.stack([m.classes(one, self.num_real).argmax(dim=1) for one in z], 1).numpy()
                    for name, m in measures.items()
                },
            )


def right_tasks(answers: Answers, name: str, size: int) -> NDArray[np.bool_]:
    """Return whether each group of images finds its task by a measure, [groups]."""
    scores_NT = answers.scores[name]
    grouped = scores_NT[: len(scores_NT) // size * size].reshape(-1, size, scores_NT.shape[1]).mean(axis=1)
    return np.asarray(grouped.argmax(axis=1) == answers.task)


def right_classes(answers: Answers, name: str) -> NDArray[np.bool_]:
    """Return whether each image alone finds both its task and its class, [N]."""
    task_and_class = right_tasks(answers, name, 1)
    return np.asarray(task_and_class & (answers.classes[name][:, answers.task] == answers.labels))


def _print_given(found: dict[str, list[list[Answers]]]) -> None:
    print("| training | class by | task given | by seed |\n| --- | --- | --- | --- |")
    for arm, seeds in found.items():
        for name in GIVEN[arm]:
            by_seed = [np.concatenate([one.given[name] for one in tasks]) for tasks in seeds]
            print(f"| {arm} | {name} | {_cell(by_seed)} | {_by_seed(by_seed)} |")


def _print_found(found: dict[str, list[list[Answers]]]) -> None:
    sizes = " | ".join(f"{size} images" for size in GROUPS)
    print(f"\n| training | task by | {sizes} | task and class, 1 image | by seed |")
    print("| --- | --- |" + " --- |" * (len(GROUPS) + 2))
    for arm, seeds in found.items():
        for name in MEASURES[arm]:
            cells = [
                _cell([np.concatenate([right_tasks(one, name, size) for one in tasks]) for tasks in seeds])
                for size in GROUPS
            ]
            both = [np.concatenate([right_classes(one, name) for one in tasks]) for tasks in seeds]
            print(f"| {arm} | {name} | {' | '.join(cells)} | {_cell(both)} | {_by_seed(both)} |")


def _cell(by_seed: Sequence[NDArray[np.bool_]]) -> str:
    right = np.concatenate(by_seed)
    low, high = wilson(float(right.mean()), len(right))
    return f"{100 * right.mean():.2f} ({100 * low:.1f} to {100 * high:.1f}; {len(right):,})"


def _by_seed(by_seed: Sequence[NDArray[np.bool_]]) -> str:
    return ", ".join(f"{100 * right.mean():.2f}" for right in by_seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sweep", choices=SWEEPS, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--times", type=int, default=1, help="how often the sweep's number of steps")
    parser.add_argument("--tasks", type=int, help="the first of the sweep's tasks alone")
    given = parser.parse_args()
    main(given.folder, given.sweep, given.seeds, given.times, given.tasks)
