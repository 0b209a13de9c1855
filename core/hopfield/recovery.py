"""HopSupSup's recovery of the stored mask that fits unlabelled images.

``projected`` holds a search of our own. The paper's is gradient descent on scores that start
at the mean of the stored z, straight-through from the binary mask: at step t of T the loss is
(1 - t/T) H + gamma (t/T) sum over layers of E(z), with H the mean entropy of the outputs. The entropy
finds the neighbourhood, the energy the attractor.

Letters: B images of a batch, D outputs of a masked layer, I input pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.hopfield.memory import HopfieldMemory, Pattern, steps_to_exact
from core.hopfield.network import forward_masked
from core.hopfield.projected import num_searches, search_stored
from core.inference.objectives import entropy
from core.seeding import stream
from core.specs.inference import HopfieldSearch, HopfieldSpec
from core.training.optimizers import Optimizer

OnStep = Callable[[int, int], None]


def ignore_step(num_done: int, num_steps: int) -> None:
    """Do nothing with the number of steps done."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """A recovered mask, bool [D] per layer, and its history, one value per step and one at the end.

    hamming: bits that differ from the true mask, int64 [T + 1]; None if the true mask is unknown.
    energy: sum over layers, float64 [T + 1]. entropy: nats, mean over the step's images, float64 [T].
    """

    mask: tuple[Pattern, ...]
    hamming: NDArray[np.int64] | None
    energy: NDArray[np.float64]
    entropy: NDArray[np.float64]

    @property
    def is_exact(self) -> bool | None:
        """Whether the recovered mask is the true one; None if that is unknown."""
        return None if self.hamming is None else bool(self.hamming[-1] == 0)

    @property
    def num_steps(self) -> int | None:
        """Number of steps after which the mask stayed the true one; None if it never did, or is unknown."""
        return None if self.hamming is None else steps_to_exact(self.hamming)


def recover(
    spec: HopfieldSpec,
    memory: HopfieldMemory,
    x_NI: Tensor,
    base: Sequence[Tensor],
    true_mask: Sequence[Pattern] | None = None,
    *,
    on_step: OnStep = ignore_step,
) -> Recovery:
    """Recover a mask from images, float32 [N, I], by ``spec.search``; ``true_mask`` only serves the report.

    on_step: called after each step with the steps done and in all.
    """
    batches = step_batches(spec, memory, x_NI)
    course = _Course(true_mask, len(batches), on_step)
    scores = SEARCHES[spec.search](_Search(spec, memory, batches, base), course)
    psi = [torch.from_numpy(layer.psi).to(base[0].device) for layer in memory.layers]
    last = _distance(scores, true_mask), float(_energy(psi, _masks(scores)))
    return Recovery(
        mask=tuple((layer >= 0).cpu().numpy() for layer in scores),
        hamming=None if true_mask is None else np.array([*course.hamming, last[0]]),
        energy=np.array([*course.energy, last[1]]),
        entropy=np.array(course.entropy),
    )


class _Course:
    """What is noted before each step."""

    def __init__(self, true_mask: Sequence[Pattern] | None, num_steps: int, on_step: OnStep) -> None:
        self._true_mask, self._num_steps, self._on_step = true_mask, num_steps, on_step
        self.hamming: list[int] = []
        self.energy: list[float] = []
        self.entropy: list[float] = []

    def note(self, scores: Sequence[Tensor], energy: float, mean_entropy: float) -> None:
        """Note a step."""
        self.hamming.append(_distance(scores, self._true_mask))
        self.energy.append(energy)
        self.entropy.append(mean_entropy)
        self._on_step(len(self.energy), self._num_steps)


@dataclass(frozen=True)
class _Search:
    """What to search, and where. batches: the images of each step, float32 [B, I]."""

    spec: HopfieldSpec
    memory: HopfieldMemory
    batches: Sequence[Tensor]
    base: Sequence[Tensor]


def _descend(search: _Search, course: _Course) -> Sequence[Tensor]:
    """Return the scores at the end of the paper's descent."""
    spec, memory, batches, base = search.spec, search.memory, search.batches, search.base
    device = base[0].device
    psi = [torch.from_numpy(layer.psi).to(device) for layer in memory.layers]
    scores = [torch.from_numpy(mean).to(device) for mean in memory.means()]
    optimizer = Optimizer(spec.optimizer)
    buffers, counter = [optimizer.buffers(layer) for layer in scores], torch.zeros((), dtype=torch.float64)
    for number, x_BI in enumerate(batches, start=1):
        masks = [mask.requires_grad_() for mask in _masks(scores)]
        mean_entropy, energy = entropy(forward_masked(x_BI, base, masks)).mean(), _energy(psi, masks)
        share = number / len(batches)
        loss = (1 - share) * mean_entropy + spec.gamma * share * energy
        course.note(scores, energy.item(), mean_entropy.item())
        counter.add_(1)
        for layer, grad_D in enumerate(torch.autograd.grad(loss, masks)):
            optimizer.update(scores[layer], grad_D, buffers[layer], counter)
    return scores


def _search_stored(search: _Search, course: _Course) -> Sequence[Tensor]:
    """Return the best of the candidates among the stored masks."""
    candidates = search_stored(search.spec, search.memory, search.batches, search.base, course.note)
    return min(candidates, key=lambda candidate: candidate.entropy).z


SEARCHES: dict[HopfieldSearch, Callable[[_Search, _Course], Sequence[Tensor]]] = {
    "descent": _descend,
    "projected": _search_stored,
}


def split_images(spec: HopfieldSpec, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the images to adapt on and those to score, int64 [N].

    They alternate, as the order of a test set may carry meaning (MNIST's first images are harder).
    """
    return (rows, rows) if spec.adapt_on == "same" else (rows[::2], rows[1::2])


def adapting_order(spec: HopfieldSpec, rows: NDArray[np.int64], *, seed: int, task: int) -> NDArray[np.int64]:
    """Return the images to adapt on, int64 [N], in the order of the batches."""
    return rows if spec.order == "file" else stream(seed, "recovery", task).permutation(rows)


def step_batches(spec: HopfieldSpec, memory: HopfieldMemory, x_NI: Tensor) -> list[Tensor]:
    """Return the images of each step of all searches: as many passes over the images as the steps need."""
    one_pass = [batch for batch in torch.split(x_NI, spec.batch_size) if len(batch) > 1]
    num_steps = num_searches(spec, memory) * (len(one_pass) if spec.steps == "one_pass" else spec.steps)
    return [one_pass[step % len(one_pass)] for step in range(num_steps)]


def _energy(psi: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    parts = [-0.5 * (2 * m - 1) @ psi_DD @ (2 * m - 1) for psi_DD, m in zip(psi, masks, strict=True)]
    return torch.stack(parts).sum()


def _masks(scores: Sequence[Tensor]) -> list[Tensor]:
    return [(layer >= 0).float() for layer in scores]


def _distance(scores: Sequence[Tensor], true_mask: Sequence[Pattern] | None) -> int:
    """Count the bits that differ; -1 if the true mask is unknown."""
    if true_mask is None:
        return -1
    found = [(layer >= 0).cpu().numpy() for layer in scores]
    return sum(int((layer ^ true).sum()) for layer, true in zip(found, true_mask, strict=True))
