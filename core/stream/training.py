"""Training on a stream without task ids (scenario NNs): decide, then train until the next decision.

Each mask has its own scores and optimizer state, and starts from the random stream of its index,
as a task with that index would. A decision depends only on the states of all masks and the
position in the stream, so training can resume from any of them, bit for bit.

Letters: K candidates, B images of a batch, D input pixels, O and I a layer's outputs and inputs,
P bytes of a packed mask.
"""

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from core.batches.inputs import gather_inputs
from core.batches.problem import Problem
from core.errors import TrainingError
from core.inference.perceptron import PerceptronSearchModel
from core.inference.search import TaskSearch
from core.inference.superposition import MaskBank, superpose
from core.masks.bits import bits_digest, pack
from core.masks.packed_sums import TILE_BYTES, num_tiles, to_tiles
from core.networks.perceptron import FixedWeights, fix_weights
from core.specs.inference import InferenceSpec
from core.stream.allocation import Choice, choose, num_candidates
from core.stream.schedule import num_decisions, plan_visits, segments
from core.training.cohort import CohortState, Step, draw_scores, image_order, start_state
from core.training.loop import check_scores
from core.training.optimizers import Optimizer

Array = NDArray[np.float32]
OnBatch = Callable[[int], None]
SPARE_MASKS = 64  # the bank grows by at least this many


def ignore_batch(num_done: int) -> None:
    """Do nothing with the number of batches done."""


@dataclass(frozen=True, kw_only=True)
class MaskState:
    """Everything that training one mask changes, as arrays ready to be stored.

    scores: float32 [O, I] per layer. buffers: the optimizer's, one tuple per layer. num_steps: steps
    done. train_loss: mean cross-entropy (nats) of the last interval. train_seconds: total.
    """

    scores: tuple[Array, ...]
    buffers: tuple[tuple[Array, ...], ...]
    num_steps: int
    train_loss: float
    train_seconds: float

    def packed(self) -> NDArray[np.uint8]:
        """Return the mask, uint8 [P]."""
        return pack([scores >= 0 for scores in self.scores])


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A choice, where it was made, and the resulting mask.

    batch: position in the stream. visit, true_task: for scoring only. num_batches: until the next
    decision. digest: sha256 (hex) of the packed mask after them, None if they were skipped.
    rolled_back: whether the training of the previous decision was dropped.
    """

    choice: Choice
    batch: int
    visit: int
    true_task: int
    num_batches: int
    digest: str | None
    rolled_back: bool


class StreamTrainer:
    """Go through the stream decision by decision.

    states: the masks allocated so far, by index; changed by ``advance``. pending: a mask and its state
    after the last decision, until the next one confirms it (``rollback``). num_done: decisions so far.
    step: as for ``core.training.cohort.train_cohort``.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        step: Step,
        states: MutableMapping[int, MaskState],
        pending: tuple[int, MaskState] | None = None,
        num_done: int = 0,
    ) -> None:
        spec = problem.spec
        assert spec.training.allocation is not None, "a spec without task identity allocates"
        self._problem, self._spec, self._rules, self._step = problem, spec, spec.training.allocation, step
        self._fixed: FixedWeights = fix_weights(problem.base, spec.training.matmul)
        self._shapes = [tuple(weight.shape) for weight in problem.base]
        self._visits, self.num_total = plan_visits(spec), num_decisions(spec)
        self._states, self.pending, self.num_decisions = states, pending, num_done
        self._order: tuple[int, NDArray[np.int32]] | None = None
        self._tiles = np.empty((0, 0, TILE_BYTES), dtype=np.uint8)
        self._num_filled = 0
        for mask in range(len(states)):
            self._keep(mask, states[mask].packed())

    @property
    def is_done(self) -> bool:
        """Whether the stream has ended."""
        return self.num_decisions >= self.num_total

    def advance(self, on_batch: OnBatch = ignore_batch) -> Decision:
        """Make the next decision and train until the one after. Raises TrainingError.

        on_batch: called with the number of batches trained since the decision, after each.
        """
        first = self.num_decisions * self._rules.decide_every
        end = min(first + self._rules.decide_every, self._visits[-1].end)
        (visit, *_), *_ = segments(self._visits, first, end)
        choice = choose(self._rules, len(self._states), self._gradient(first))
        rolled_back = self._settle(choice.mask)
        digest = None if choice.mask is None else self._train(choice.mask, first, end, on_batch)
        self.num_decisions += 1
        if self.is_done and self.pending is not None:
            self._settle(self.pending[0])
        return Decision(
            choice=choice,
            batch=first,
            visit=self._visits.index(visit),
            true_task=visit.task,
            num_batches=end - first,
            digest=digest,
            rolled_back=rolled_back,
        )

    def _settle(self, chosen: int | None) -> bool:
        """Keep the pending state if the same mask was chosen; return whether it was dropped."""
        if self.pending is None:
            return False
        mask, state = self.pending
        self.pending = None
        if mask == chosen:
            self._states[mask] = state
            self._keep(mask, state.packed())
        return mask != chosen

    def _train(self, mask: int, first: int, end: int, on_batch: OnBatch) -> str:
        """Train ``mask`` on batches ``first`` to ``end - 1``; return its digest."""
        state = self._trained(mask, first, end, on_batch)
        packed = state.packed()
        if self._rules.rollback and mask in self._states:
            self.pending = mask, state
        else:
            self._states[mask] = state
            self._keep(mask, packed)
        return bits_digest(packed.tobytes())

    def _gradient(self, batch: int) -> NDArray[np.float64]:
        """Return dH/dalpha of the candidates on a whole batch, float64 [K]; empty without masks."""
        num_masks = len(self._states)
        if num_masks == 0:
            return np.empty(0)
        tasks = np.arange(num_candidates(self._rules, num_masks))
        for mask in range(self._num_filled, len(tasks)):  # untrained masks take part
            self._keep(mask, pack([scores >= 0 for scores in self._start(mask)]))
        bank = MaskBank(self._tiles, self._fixed.base, torch.get_num_threads())
        search = TaskSearch(
            spec=InferenceSpec(algorithm="one_shot", objective="H", images=self._spec.training.batch_size),
            bank=bank,
            start=superpose(bank, tasks),
            num_classes=self._problem.dataset.num_classes,
            model=PerceptronSearchModel(self._problem.base),
        )
        (visit, start, _), *_ = segments(self._visits, batch, batch + 1)
        gather_1D, rows_1B = self._batches(visit.task, visit.num_seen + start - visit.first, 1)
        planes = search.planes(gather_inputs(self._problem.train, gather_1D, rows_1B)[0], search.start)
        return bank.sums(planes, tasks, np.arange(len(planes)))

    def _trained(self, mask: int, first: int, end: int, on_batch: OnBatch) -> MaskState:
        """Return the state of ``mask`` after batches ``first`` to ``end - 1``."""
        known, losses, start_s = self._states.get(mask), [], time.perf_counter()
        state = self._on_device(mask, known)
        size = self._spec.training.batch_size
        for visit, start, stop in segments(self._visits, first, end):
            seen = visit.num_seen + start - visit.first
            gather_1D, rows_1N = self._batches(visit.task, seen, stop - start)
            for rows_1B in torch.split(rows_1N, size, dim=1):
                losses.append(self._step.run(self._problem.train, gather_1D, rows_1B, self._fixed, state))
                on_batch(len(losses))
        loss = float(torch.stack(losses).mean())
        if not np.isfinite(loss):
            raise TrainingError(f"the loss of mask {mask} is not finite; lower training.optimizer.lr")
        check_scores([mask], state.scores, "mask")
        return MaskState(
            scores=tuple(scores[0].cpu().numpy() for scores in state.scores),
            buffers=tuple(tuple(b[0].float().cpu().numpy() for b in layer) for layer in state.buffers),
            num_steps=int(state.step),
            train_loss=loss,
            train_seconds=(known.train_seconds if known else 0.0) + time.perf_counter() - start_s,
        )

    def _on_device(self, mask: int, known: MaskState | None) -> CohortState:
        """Return a cohort state of ``mask`` alone, which shares no memory with ``known``."""
        device, optimizer = self._problem.device, Optimizer(self._spec.training.optimizer)
        scores = known.scores if known else self._start(mask)
        on_device = [torch.tensor(layer[None], device=device) for layer in scores]
        state = start_state(optimizer, on_device, self._fixed, weights=self._step.weights)
        if known:
            state.step.fill_(known.num_steps)
            for layer, stored in zip(state.buffers, known.buffers, strict=True):
                for buffer, values in zip(layer, stored, strict=True):
                    buffer.copy_(torch.from_numpy(values))
        return state

    def _start(self, mask: int) -> tuple[Array, ...]:
        scores = tuple(np.empty(shape, dtype=np.float32) for shape in self._shapes)
        draw_scores(self._spec.seed, mask, scores)
        return scores

    def _batches(self, task: int, first: int, num: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pixel gather [1, D] and image rows [1, num * B] of ``task``, from batch ``first`` on."""
        view, size = self._problem.view(task), self._spec.training.batch_size
        if self._order is None or self._order[0] != task:
            most = max(visit.num_seen + visit.num_batches for visit in self._visits if visit.task == task)
            self._order = task, image_order(self._spec, task, view, most * size)
        rows = self._order[1][first * size : (first + num) * size]
        device = self._problem.device
        return (
            torch.from_numpy(view.input_gather).unsqueeze(0).to(device),
            torch.from_numpy(rows).unsqueeze(0).to(device),
        )

    def _keep(self, mask: int, packed_P: NDArray[np.uint8]) -> None:
        """Put a mask into the bank, which grows as needed."""
        if mask >= self._tiles.shape[1]:
            room = max(2 * self._tiles.shape[1], mask + SPARE_MASKS)
            grown = np.zeros((num_tiles(packed_P.size), room, TILE_BYTES), dtype=np.uint8)
            grown[: len(self._tiles), : self._tiles.shape[1]] = self._tiles
            self._tiles = grown
        self._tiles[:, mask] = to_tiles(packed_P[None])[:, 0]
        self._num_filled = max(self._num_filled, mask + 1)
