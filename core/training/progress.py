"""Training that can be cut off: what a cohort has done so far, as arrays that can be stored.

A cohort trains in parts, one after another (of one task, or all of it). What a save holds is the
results of the parts that are done and the state of the one in training. Whoever keeps saves
decides when (``Saver``); here is only what goes into one, and how to go on from it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray[Any]]
PART = "part"  # how many parts are done
DONE = "done/"  # prefix of the parts that are done, before their number
NOW = "now/"  # prefix of the one in training


class Saver(Protocol):
    """Keeps the last save of one cohort."""

    def load(self) -> Arrays | None:
        """Return the last save that can be used, None without any."""
        ...

    def is_due(self) -> bool:
        """Tell whether it is time for a save; asked after every step."""
        ...

    def save(self, arrays: Arrays) -> None:
        """Keep a save in place of the one before."""
        ...


class NoSaver:
    """Keeps nothing."""

    def load(self) -> None:
        """Return nothing."""

    def is_due(self) -> bool:
        """Never."""
        return False

    def save(self, arrays: Arrays) -> None:
        """Forget it."""


@dataclass
class Parts:
    """Goes through the parts of a cohort, from where the last save stands."""

    saver: Saver
    done: list[Arrays] = field(default_factory=list)
    now: Arrays | None = None

    @classmethod
    def resume(cls, saver: Saver) -> "Parts":
        """Return the parts as the last save has them, or none done."""
        stored = saver.load()
        if stored is None:
            return cls(saver)
        done = [_under(stored, f"{DONE}{number}/") for number in range(int(stored[PART]))]
        return cls(saver, done, _under(stored, NOW) or None)

    def is_due(self) -> bool:
        """Tell whether it is time for a save."""
        return self.saver.is_due()

    def save(self, now: Arrays) -> None:
        """Save what is done and ``now``, the state of the part in training."""
        arrays: Arrays = {PART: np.array(len(self.done))}
        for number, part in enumerate(self.done):
            arrays |= {f"{DONE}{number}/{key}": value for key, value in part.items()}
        self.saver.save(arrays | {f"{NOW}{key}": value for key, value in now.items()})

    def end_part(self, result: Arrays) -> None:
        """Note the result of the part in training."""
        self.done.append(result)
        self.now = None


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
