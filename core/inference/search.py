"""Infer the task of an image: one-shot, binary, exhaustive, or one-shot with a shortlist.

One-shot (paper, eq. 4): the task whose alpha has the lowest gradient at the uniform
superposition. Binary: keep the better half of the candidates, ceil(alive / 2) of them, take the
gradient at the superposition of the rest, and repeat until one is left. Exhaustive: each mask on
its own. Shortlist: one-shot on a part of the weights, then on all weights for the best candidates.
All search only the given tasks, and ties go to the lower task.

Letters: G inferences, N images of one inference, D input pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels
from core.data.benchmarks import TaskView
from core.errors import InferenceError
from core.inference.objectives import plain_score
from core.inference.perceptron import PerceptronSearchModel
from core.inference.superposition import (
    Activations,
    Bank,
    Superposition,
    Tasks,
    first_tasks,
    superpose,
    top_k_lowest,
)
from core.masks.bits import packed_num_bytes
from core.masks.packed_sums import Planes, num_tiles
from core.specs.inference import InferenceSpec

NUM_BEST = 5
# From this many separate images on, unpacking a mask once for all is cheaper than a sum for each.
SHARED_READ_IMAGES = 32
SHORTLIST_SHARE = 0.1  # of a mask's bytes that a shortlist reads
SHORTLIST_TASKS = 32  # candidates to compare exactly
Best = tuple[NDArray[np.float64], Tasks]  # values and tasks of one inference, best first
OnShare = Callable[[float], None]


class SearchModel(Protocol):
    """How images pass through a network (``core.inference.perceptron``, ``core.inference.modules``)."""

    @property
    def num_inputs(self) -> int:
        """D."""
        ...

    def planes(
        self, x_ND: Tensor, superposition: Superposition, spec: InferenceSpec, num_classes: int
    ) -> Planes:
        """Return dObjective/dW * base at a superposition, for the mean objective of the images."""
        ...

    def activations(
        self, x_BD: Tensor, superposition: Superposition, spec: InferenceSpec, num_classes: int
    ) -> Activations | None:
        """Pass B images that decide alone through a superposition, forward and backward.

        None where a gradient for each image does not follow from these.
        """
        ...

    def logits(self, x_BD: Tensor, packed_P: NDArray[np.uint8], task: int) -> Tensor:
        """Return the logits [B, O] under one task's mask."""
        ...

    def inputs(self, view: TaskView, pixels: Pixels, rows_N: NDArray[np.int64]) -> Tensor:
        """Return test images as the task sees them, float32 [N, D]."""
        ...

    def correct(
        self,
        view: TaskView,
        pixels: Pixels,
        rows_N: NDArray[np.int64],
        packed_P: NDArray[np.uint8],
        task: int,
    ) -> NDArray[np.bool_]:
        """Return which images of ``view`` the mask of ``task`` classifies correctly, bool [N]."""
        ...


@dataclass(frozen=True, kw_only=True)
class TaskSearch:
    """How to search, and among which tasks.

    start: the uniform superposition of the tasks to search. num_classes: l, the number of real
    classes, which are the first outputs.
    """

    spec: InferenceSpec
    bank: Bank
    start: Superposition
    num_classes: int
    model: SearchModel

    def planes(self, x_ND: Tensor, superposition: Superposition) -> Planes:
        """Return the gradient of all weights times the weights, for N images that decide together."""
        return self.model.planes(x_ND, superposition, self.spec, self.num_classes)

    def activations(self, x_BD: Tensor, superposition: Superposition) -> Activations | None:
        """Pass B images that decide alone through a superposition; see ``SearchModel``."""
        return self.model.activations(x_BD, superposition, self.spec, self.num_classes)


@dataclass(frozen=True)
class Ranking:
    """The best tasks of each inference, best first.

    tasks: int64 [G, best], best = min(5, tasks searched). values: float64 [G, best], lower is
    better: the gradient (one-shot, shortlist), ``core.inference.objectives.plain_score`` (exhaustive), or the
    gradient in the deciding round (binary: comparable only within a round).
    """

    tasks: NDArray[np.int64]
    values: NDArray[np.float64]


def search_first(
    spec: InferenceSpec, bank: Bank, k: int, *, num_classes: int, model: SearchModel | None = None
) -> TaskSearch:
    """Return the search among tasks 0 .. k - 1; model: by default that of a multi-layer perceptron.

    Raises InferenceError if the bank has fewer tasks, or if the objective is G and every output
    is a real class.
    """
    outputs = bank.base[-1].shape[0]
    if spec.objective == "G" and outputs <= num_classes:
        raise InferenceError(
            f"objective G needs superfluous neurons: the network has {outputs} outputs for "
            f"{num_classes} classes; use objective H"
        )
    start = superpose(bank, first_tasks(bank, k))
    model = model or PerceptronSearchModel(tuple(bank.base))
    return TaskSearch(spec=spec, bank=bank, start=start, num_classes=num_classes, model=model)


def ignore_share(share: float) -> None:
    """Do nothing with the share that is done."""


def infer_tasks(search: TaskSearch, x_GND: Tensor, on_share: OnShare = ignore_share) -> Ranking:
    """Infer one task for each of G groups of N images. on_share: called now and then with the share done.

    x_GND: normalised inputs; the N images of a group decide together, by the mean of their
    objectives. Raises InferenceError on a wrong number of pixels, or pixels that are not finite.
    """
    _check(search, x_GND)
    algorithm, (num_groups, num_images, _) = search.spec.algorithm, x_GND.shape
    if algorithm == "exhaustive":
        return _rank_rows(_plain_scores(search, x_GND, on_share), search.start.tasks)
    if algorithm == "one_shot" and num_images == 1 and num_groups >= SHARED_READ_IMAGES:
        activations = search.activations(x_GND[:, 0], search.start)
        if activations is not None:
            return _rank_rows(search.bank.products(activations, search.start.tasks), search.start.tasks)
    infer = {"one_shot": _one_shot, "shortlist": _shortlist, "binary": _binary}[algorithm]
    found = []
    for number, x_ND in enumerate(x_GND, start=1):
        found.append(infer(search, x_ND))
        on_share(number / num_groups)
    return _stack(found)


def _one_shot(search: TaskSearch, x_ND: Tensor) -> Best:
    planes = search.planes(x_ND, search.start)
    return search.bank.top_k_lowest(planes, search.start.tasks, np.arange(len(planes)), NUM_BEST)


def _shortlist(search: TaskSearch, x_ND: Tensor) -> Best:
    """Sum over the first layer's tiles with the largest squared gradients, then compare the best exactly.

    Only the first layer sees the image itself. Deeper layers see what the superposition makes of it,
    which is nearly the same for all tasks and mostly adds noise to the comparison.
    """
    bank, planes = search.bank, search.planes(x_ND, search.start)
    first = planes[: num_tiles(packed_num_bytes([tuple(bank.base[0].shape)]))]
    mass = np.einsum("tjp,tjp->t", first, first)
    num_read = max(1, round(SHORTLIST_SHARE * len(planes)))
    chosen = np.sort(np.argsort(-mass, kind="stable")[:num_read])
    _, candidates = bank.top_k_lowest(planes, search.start.tasks, chosen, SHORTLIST_TASKS)
    return bank.top_k_lowest(planes, np.sort(candidates), np.arange(len(planes)), NUM_BEST)


def _binary(search: TaskSearch, x_ND: Tensor) -> Best:
    """Halve the candidates until one is left, dropping those with the higher gradients."""
    alive, dropped = search.start, []
    while True:
        planes = search.planes(x_ND, alive)
        sums = search.bank.sums(planes, alive.tasks, np.arange(len(planes)))
        values, tasks = top_k_lowest(sums, alive.tasks, len(alive.tasks))
        num_kept = -(-len(tasks) // 2) if len(tasks) > 1 else 0
        dropped.append((values[num_kept:], tasks[num_kept:]))
        if num_kept == 0:
            break
        alive = superpose(search.bank, np.sort(tasks[:num_kept]))
    values = np.concatenate([values for values, _ in reversed(dropped)])
    tasks = np.concatenate([tasks for _, tasks in reversed(dropped)])
    return values[:NUM_BEST], tasks[:NUM_BEST]


def _plain_scores(search: TaskSearch, x_GND: Tensor, on_share: OnShare) -> NDArray[np.float64]:
    """Return the score of each group under each single mask, float64 [G, tasks]; lower is better."""
    num_groups, num_images, num_pixels = x_GND.shape
    tasks = search.start.tasks
    x_BD = x_GND.reshape(num_groups * num_images, num_pixels)
    scores = np.empty((num_groups, len(tasks)))
    for column, task in enumerate(tasks.tolist()):
        logits_BO = search.model.logits(x_BD, search.bank.packed(tasks[column : column + 1])[0], task)
        score = plain_score(logits_BO, search.spec.objective, search.num_classes)
        scores[:, column] = score.reshape(num_groups, num_images).mean(dim=1).cpu().numpy()
        on_share((column + 1) / len(tasks))
    return scores


def _rank_rows(values_GK: NDArray[np.float64], tasks: Tasks) -> Ranking:
    return _stack([top_k_lowest(values_K, tasks, NUM_BEST) for values_K in values_GK])


def _stack(found: Sequence[Best]) -> Ranking:
    return Ranking(np.stack([tasks for _, tasks in found]), np.stack([values for values, _ in found]))


def _check(search: TaskSearch, x_GND: Tensor) -> None:
    expected, found = search.model.num_inputs, x_GND.shape[2]
    if found != expected:
        raise InferenceError(f"an image of {found} pixels, the network takes {expected}")
    if not bool(torch.isfinite(x_GND).all()):
        raise InferenceError("an image has pixels that are not finite numbers (NaN or infinite)")
