"""The loop over training steps that all networks share: timing, losses, saves."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import TrainingError
from core.training.progress import Arrays, Parts, fill_tensors, to_arrays

LOSS_WINDOW_STEPS = 100  # train_loss is the mean over the last steps of this many


@dataclass
class Course:
    """How far a part of a cohort has come. losses: of the last steps, [K] each. seconds: in the loop."""

    step: int = 0
    seconds: float = 0.0
    losses: deque[Tensor] = field(default_factory=lambda: deque(maxlen=LOSS_WINDOW_STEPS))


def run_steps(
    step: Callable[[int], Tensor], num_steps: int, state: dict[str, list[Tensor]], parts: Parts
) -> Course:
    """Run steps up to ``num_steps``, from where the last save stands; return the course.

    step: takes its number, changes ``state`` in place, returns the loss [K]. Nothing in the loop
    waits for the device: steps queue up, and the end waits once.
    """
    course = _begin(state, parts)
    first, start_s = course.step, time.perf_counter()
    device = next(iter(state.values()))[0].device
    for t in range(first, num_steps):
        if t == first + 1:  # the first step compiles, so the clock starts at the second
            _synchronize(device)
            start_s = time.perf_counter()
        course.losses.append(step(t))
        course.step = t + 1
        if parts.is_due() and t + 1 < num_steps:
            parts.save(_arrays(course, state, course.seconds + time.perf_counter() - start_s))
    _synchronize(device)
    num_run = num_steps - first
    course.seconds += (time.perf_counter() - start_s) * num_run / max(num_run - 1, 1)
    return course


def mean_loss(tasks: Sequence[int], course: Course) -> NDArray[np.float32]:
    """Return the mean loss of each task, float32 [K]. Raises TrainingError where one is not finite."""
    # Along rows: the order in which a column is summed depends on how many there are.
    loss_K = torch.stack(list(course.losses), dim=1).mean(dim=1).cpu().numpy()
    if not np.isfinite(loss_K).all():
        bad = [task for task, loss in zip(tasks, loss_K, strict=True) if not np.isfinite(loss)]
        raise TrainingError(
            f"the loss of task {', '.join(map(str, bad))} is not finite; lower training.optimizer.lr"
        )
    return loss_K.astype(np.float32)


def _begin(state: dict[str, list[Tensor]], parts: Parts) -> Course:
    stored, course = parts.now, Course()
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
