"""Infer the task of an image: one-shot, binary, exhaustive, or one-shot with a shortlist.

One-shot (paper, eq. 4): the task whose alpha has the lowest gradient at the uniform
superposition. Binary: keep the better half of the candidates, ceil(alive / 2) of them, take the
gradient at the superposition of the rest, and repeat until one is left. Exhaustive: each mask on
its own. Shortlist: one-shot on a part of the weights, then on all weights for the best candidates.
All search only the given tasks, and ties go to the lower task.

Letters: G inferences, N images of one inference, D input pixels.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.inputs import Pixels
from core.data.benchmarks import TaskView
from core.errors import InferenceError
from core.inference.best_first import ExactBest, best_first, floors
from core.inference.objectives import plain_score
from core.inference.perceptron import PerceptronSearchModel
from core.inference.superposition import (
    Activations,
    Bank,
    RoughBank,
    Superposition,
    Tasks,
    first_tasks,
    gradient_values,
    superpose,
    top_k_lowest,
)
from core.masks.bits import packed_num_bytes
from core.masks.packed_sums import TILE_BYTES, Planes, from_planes, num_tiles
from core.masks.packed_tables import LANES, RoughSums
from core.specs.inference import InferenceSpec, Objective

NUM_BEST = 5
SHORTLIST_SHARE = 0.1  # of a mask's bytes that a shortlist reads
SHORTLIST_TASKS = 32  # candidates to compare exactly
PARTS_OF: dict[Objective, tuple[Objective, ...]] = {"SE": ("S", "E")}  # objectives that are sums of others
SMALLEST = float(np.finfo(np.float32).tiny)
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

    def block_logits(self, x_BD: Tensor, bank: Bank, tasks: Tasks) -> Tensor:
        """Return the logits [tasks, B, O] under each of a few masks."""
        ...

    def own_logits(self, x_BD: Tensor, bank: Bank, tasks_B: Tasks) -> Tensor:
        """Return the logits [B, O] of each image under the mask of its own task."""
        ...

    def divergences(self, x_GND: Tensor, bank: Bank, tasks: Tasks, num_norms: int) -> Tensor:
        """Return how far the statistics of groups of images are from each task's, [tasks, G].

        Raises InferenceError where tasks have no statistics.
        """
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
    gradient in the deciding round (binary: comparable only within a round). A row that ended early (see
    ``infer_tasks``) has -1 and infinity at its end. num_whole: inferences for which rough sums left so many
    tasks that all were compared exactly.
    """

    tasks: NDArray[np.int64]
    values: NDArray[np.float64]
    num_whole: int = 0


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


def infer_tasks(
    search: TaskSearch, x_GND: Tensor, on_share: OnShare = ignore_share, own: Collection[int] | None = None
) -> Ranking:
    """Infer one task for each of G groups of N images. on_share: called now and then with the share done.

    x_GND: normalised inputs; the N images of a group decide together, by the mean of their
    objectives. own: tasks; a row may end after the first of these and the first that is not, which is all
    that their rank and their margin need. Raises InferenceError on a wrong number of pixels, or pixels that
    are not finite.
    """
    _check(search, x_GND)
    algorithm, (num_groups, num_images, _) = search.spec.algorithm, x_GND.shape
    if algorithm == "exhaustive":
        return _rank_rows(_plain_scores(search, x_GND, on_share), search.start.tasks)
    if algorithm == "one_shot" and num_images == 1 and num_groups >= search.bank.shared_read_images:
        activations = search.activations(x_GND[:, 0], search.start)
        if activations is not None:
            return _one_shot_shared(search, activations, own, on_share)
    return infer_each(search, x_GND, on_share, own)


def infer_each(
    search: TaskSearch, x_GND: Tensor, on_share: OnShare = ignore_share, own: Collection[int] | None = None
) -> Ranking:
    """Infer as ``infer_tasks`` does, with values that do not depend on the other groups of the call."""
    _check(search, x_GND)
    infer = {"one_shot": _one_shot, "shortlist": _shortlist, "binary": _binary}[search.spec.algorithm]
    found: list[Best] = []
    num_whole, num_groups = 0, len(x_GND)
    for start in range(0, num_groups, LANES):
        chunk = x_GND[start : start + LANES]
        rough = _rough_one_shot(search, chunk, own) if search.spec.algorithm == "one_shot" else None
        found += [infer(search, x_ND) for x_ND in chunk] if rough is None else [best for best, _ in rough]
        num_whole += 0 if rough is None else sum(whole for _, whole in rough)
        on_share(min(1, (start + LANES) / num_groups))
    return _stack(found, num_whole)


def _one_shot_shared(
    search: TaskSearch, activations: Activations, own: Collection[int] | None, on_share: OnShare
) -> Ranking:
    """Rank tasks by ``products``, of those tasks alone that rough sums leave."""
    tasks, num_images, bank = search.start.tasks, len(activations), _rough_bank(search)
    if bank is None:
        return _rank_rows(search.bank.products(activations, tasks), tasks)
    floors_BK = []
    most = bank.rough_images[1]
    for start in range(0, num_images, most):
        chunk = activations.rows(slice(start, start + most))
        values = [gradient_values(chunk.rows(slice(i, i + 1)), search.bank.base) for i in range(len(chunk))]
        rough = bank.rough_sums(values, tasks)
        if rough is None:
            return _rank_rows(search.bank.products(activations, tasks), tasks)
        floors_BK.append(_product_floors(search, chunk, rough)[: len(chunk)])
        on_share(min(1, (start + most) / num_images))
    best = best_first(
        np.concatenate(floors_BK),
        lambda some: search.bank.products(activations, tasks[some]),
        min(NUM_BEST, len(tasks)),
        _positions(tasks, own),
    )
    return Ranking(_named(best, tasks), best.values, best.num_whole)


def _rough_bank(search: TaskSearch) -> RoughBank | None:
    """Return the bank for rough sums of all tasks; None without one, or if products may round more than float32."""
    if torch.get_float32_matmul_precision() != "highest":
        return None
    return search.bank.rough_bank(len(search.start.tasks))


def _product_floors(search: TaskSearch, chunk: Activations, rough: RoughSums) -> NDArray[np.float64]:
    """Return floors of ``products``, whose terms are rounded in a sum over a layer's inputs and a few times more."""
    base = search.bank.base
    num_roundings = max(weight.shape[1] for weight in base) + 8
    largest = max(float(delta.abs().max()) for delta in chunk.deltas) + max(
        float(w.abs().max()) for w in base
    )
    num_weights = sum(weight.numel() for weight in base)
    return floors(rough, num_roundings, SMALLEST * num_weights * (2 + largest))


def _rough_one_shot(
    search: TaskSearch, x_GND: Tensor, own: Collection[int] | None
) -> list[tuple[Best, int]] | None:
    """Return what ``_one_shot`` does for each group, by exact sums of those tasks alone that rough sums leave."""
    tasks, bank = search.start.tasks, _rough_bank(search)
    if bank is None or len(x_GND) < bank.rough_images[0]:
        return None
    planes = [search.planes(x_ND, search.start) for x_ND in x_GND]
    values = [torch.from_numpy(from_planes(one, one.size // 8)) for one in planes]
    rough = bank.rough_sums(values, tasks)
    if rough is None:
        return None
    # Within a tile sums are float32, and terms take part in at most one addition per bit of it.
    floors_GK = floors(rough, 8 * TILE_BYTES + 8, SMALLEST * planes[0].size)
    found = []
    for one, floors_K in zip(planes, floors_GK, strict=False):
        exact = partial(_exact_sums, search, one)
        best = best_first(floors_K[None], exact, min(NUM_BEST, len(tasks)), _positions(tasks, own))
        found.append(((best.values[0], _named(best, tasks)[0]), best.num_whole))
    return found


def _exact_sums(search: TaskSearch, planes: Planes, some: NDArray[np.int64]) -> NDArray[np.float64]:
    return search.bank.sums(planes, search.start.tasks[some], np.arange(len(planes)))[None]


def _positions(tasks: Tasks, own: Collection[int] | None) -> list[int] | None:
    return None if own is None else np.flatnonzero(np.isin(tasks, list(own))).tolist()


def _named(best: ExactBest, tasks: Tasks) -> NDArray[np.int64]:
    return np.where(best.positions < 0, -1, tasks[best.positions])


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
    tasks, parts = search.start.tasks, PARTS_OF.get(search.spec.objective, (search.spec.objective,))
    scores = np.empty((len(parts), len(x_GND), len(tasks)))
    for first in range(0, len(tasks), search.bank.tasks_at_once):
        block = tasks[first : first + search.bank.tasks_at_once]
        for of_part, part in zip(scores, parts, strict=True):
            one = replace(search, spec=replace(search.spec, objective=part))
            of_part[:, first : first + len(block)] = _block_scores(one, x_GND, block).T.cpu().numpy()
        on_share((first + len(block)) / len(tasks))
    if len(parts) > 1:
        scores = np.stack([standardised(of_part) for of_part in scores])
    return np.asarray(scores.sum(axis=0))


def standardised(scores_GK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores with mean 0 and deviation 1 over the masks, so that different ones can be added."""
    spread_G1 = scores_GK.std(axis=1, keepdims=True)
    centred_GK = scores_GK - scores_GK.mean(axis=1, keepdims=True)
    return np.asarray(centred_GK / np.where(spread_G1 > 0, spread_G1, 1))


def _block_scores(search: TaskSearch, x_GND: Tensor, block: Tasks) -> Tensor:
    """Return the scores of a few masks, [tasks, G]."""
    if search.spec.objective == "S":
        return search.model.divergences(x_GND, search.bank, block, search.spec.norms_compared)
    logits_KBO = search.model.block_logits(x_GND.flatten(0, 1), search.bank, block)
    score = plain_score(logits_KBO.flatten(0, 1), search.spec.objective, search.num_classes)
    return score.view(len(block), *x_GND.shape[:2]).mean(dim=2)


def _rank_rows(values_GK: NDArray[np.float64], tasks: Tasks) -> Ranking:
    return _stack([top_k_lowest(values_K, tasks, NUM_BEST) for values_K in values_GK])


def _stack(found: Sequence[Best], num_whole: int = 0) -> Ranking:
    tasks, values = [tasks for _, tasks in found], [values for values, _ in found]
    return Ranking(np.stack(tasks), np.stack(values), num_whole)


def _check(search: TaskSearch, x_GND: Tensor) -> None:
    expected, found = search.model.num_inputs, x_GND.shape[2]
    if found != expected:
        raise InferenceError(f"an image of {found} pixels, the network takes {expected}")
    if not bool(torch.isfinite(x_GND).all()):
        raise InferenceError("an image has pixels that are not finite numbers (NaN or infinite)")
