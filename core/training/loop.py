"""The loop over training steps that all networks share: timing, losses, checkpoints."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import TrainingError

LOSS_WINDOW_STEPS = 100  # train_loss is the mean over the last steps of this many
Arrays = dict[str, NDArray[Any]]
PART = "part"  # number of chunks that are done
DONE = "done/"  # prefix of the chunks that are done, before their number
NOW = "now/"  # prefix of the chunk in training


class Checkpointer(Protocol):
    """Keeps the last checkpoint of one cohort, and is notified of every step."""

    def load(self) -> Arrays | None:
        """Return the last checkpoint that can be read, None without one."""
        ...

    def is_due(self) -> bool:
        """Return whether it is time for a checkpoint; asked after every step."""
        ...

    def save(self, arrays: Arrays) -> None:
        """Replace the checkpoint."""
        ...

    def on_step(self, num_done: int, num_steps: int) -> None:
        """Handle a report of how many of the cohort's steps are done; must return at once."""
        ...


class NoCheckpoints:
    """Keeps nothing."""

    def load(self) -> None:
        """Return nothing."""

    def is_due(self) -> bool:
        """Never."""
        return False

    def save(self, arrays: Arrays) -> None:
        """Forget it."""

    def on_step(self, num_done: int, num_steps: int) -> None:
        """Ignore it."""


@dataclass
class Chunks:
    """The chunks of a cohort that are done, and the state of the one in training.

    num_left: chunks that are not done, the one in training included.
    """

    checkpointer: Checkpointer
    num_left: int = 1
    done: list[Arrays] = field(default_factory=list)
    now: Arrays | None = None

    @classmethod
    def resume(cls, checkpointer: Checkpointer) -> "Chunks":
        """Return the chunks that the last checkpoint has."""
        stored = checkpointer.load()
        if stored is None:
            return cls(checkpointer)
        done = [_under(stored, f"{DONE}{number}/") for number in range(int(stored[PART]))]
        return cls(checkpointer, done=done, now=_under(stored, NOW) or None)

    @property
    def num_tasks(self) -> int:
        """Tasks of the chunks that are done."""
        return sum(len(chunk["loss"]) for chunk in self.done)

    @property
    def size_now(self) -> int | None:
        """Tasks, with those that only fill up, of the chunk that a checkpoint has in training; None without one."""
        return None if self.now is None else int(self.now["course.losses"].shape[1])

    def on_step(self, num_done: int, num_steps: int) -> None:
        """Report the steps of the whole cohort, given those of the chunk in training."""
        num_chunks = len(self.done) + self.num_left
        self.checkpointer.on_step(len(self.done) * num_steps + num_done, num_chunks * num_steps)

    def is_due(self) -> bool:
        """Return whether it is time for a checkpoint."""
        return self.checkpointer.is_due()

    def save(self, now: Arrays) -> None:
        """Write a checkpoint. now: the state of the chunk in training."""
        arrays: Arrays = {PART: np.array(len(self.done))}
        for number, chunk in enumerate(self.done):
            arrays |= {f"{DONE}{number}/{key}": value for key, value in chunk.items()}
        self.checkpointer.save(arrays | {f"{NOW}{key}": value for key, value in now.items()})

    def end_chunk(self, result: Arrays) -> None:
        """Add the result of the chunk in training."""
        self.done.append(result)
        self.now = None


@dataclass
class Course:
    """How far training is. losses: of the last steps, [K] each. seconds: in the loop."""

    step: int = 0
    seconds: float = 0.0
    losses: deque[Tensor] = field(default_factory=lambda: deque(maxlen=LOSS_WINDOW_STEPS))


def run_steps(
    step: Callable[[int], Tensor], num_steps: int, state: dict[str, list[Tensor]], chunks: Chunks
) -> Course:
    """Run steps up to ``num_steps``, from the last checkpoint on; return the course.

    step: takes its number, changes ``state`` in place, returns the loss [K]. Nothing in the loop
    waits for the device: steps queue up, and the end waits once.
    """
    course = _begin(state, chunks)
    first, start_s = course.step, time.perf_counter()
    device = next(iter(state.values()))[0].device
    chunks.on_step(first, num_steps)
    for t in range(first, num_steps):
        if t == first + 1:  # the first step compiles, so the clock starts at the second
            _synchronize(device)
            start_s = time.perf_counter()
        course.losses.append(step(t))
        course.step = t + 1
        chunks.on_step(t + 1, num_steps)
        if chunks.is_due() and t + 1 < num_steps:
            chunks.save(_arrays(course, state, course.seconds + time.perf_counter() - start_s))
    _synchronize(device)
    num_run = num_steps - first
    course.seconds += (time.perf_counter() - start_s) * num_run / max(num_run - 1, 1)
    return course


def mean_loss(tasks: Sequence[int], course: Course) -> NDArray[np.float32]:
    """Return the mean loss of each of the first tasks, float32 [K]. Raises TrainingError if one is not finite."""
    # Along rows: the order in which a column is summed depends on how many there are.
    loss_K = torch.stack(list(course.losses), dim=1).mean(dim=1).cpu().numpy()[: len(tasks)]
    if not np.isfinite(loss_K).all():
        bad = [task for task, loss in zip(tasks, loss_K, strict=True) if not np.isfinite(loss)]
        raise TrainingError(
            f"the loss of task {', '.join(map(str, bad))} is not finite; lower training.optimizer.lr"
        )
    return loss_K.astype(np.float32)


def check_scores(tasks: Sequence[int], scores: Sequence[Tensor], noun: str = "task") -> None:
    """Raise TrainingError if a score of a task (or ``noun``) is not finite. scores: [K, ...] per layer.

    Scores that are no numbers keep no weight, and the loss of an empty mask is finite.
    """
    is_good_K = torch.stack([torch.isfinite(layer).flatten(1).all(dim=1) for layer in scores]).all(dim=0)
    bad = [task for task, is_good in zip(tasks, is_good_K.tolist(), strict=True) if not is_good]
    if bad:
        raise TrainingError(
            f"training diverged: scores of {noun} {', '.join(map(str, bad))} are not finite; lower training.optimizer.lr"
        )


def _begin(state: dict[str, list[Tensor]], chunks: Chunks) -> Course:
    stored, course = chunks.now, Course()
    if stored is None:
        return course
    fill_tensors(state, stored)
    course.step, course.seconds = int(stored["course.step"]), float(stored["course.seconds"])
    device = next(iter(state.values()))[0].device
    course.losses.extend(torch.from_numpy(stored["course.losses"]).to(device))
    return course


def _arrays(course: Course, state: dict[str, list[Tensor]], seconds: float) -> Arrays:
    return to_arrays(state) | {
        "course.step": np.array(course.step),
        "course.seconds": np.array(seconds),
        "course.losses": torch.stack(list(course.losses)).cpu().numpy(),
    }


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def named_tensors(groups: dict[str, list[Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield (name and number, tensor) of each, in order."""
    for name, tensors in groups.items():
        for number, tensor in enumerate(tensors):
            yield f"{name}{number}", tensor


def to_arrays(groups: dict[str, list[Tensor]]) -> Arrays:
    """Return copies of all tensors by name; bfloat16 as the float32 it stands for."""
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy().copy()
        for name, tensor in named_tensors(groups)
    }


def fill_tensors(groups: dict[str, list[Tensor]], arrays: Arrays) -> None:
    """Undo ``to_arrays`` into tensors of the same names and shapes, in place."""
    for name, tensor in named_tensors(groups):
        tensor.copy_(torch.from_numpy(arrays[name]))


def _under(stored: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
