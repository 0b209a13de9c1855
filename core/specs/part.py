"""One part of a sequence of tasks: a data set and its tasks. No numpy, no torch."""

from dataclasses import dataclass
from typing import Literal

from core.specs.base import Spec


@dataclass(frozen=True, kw_only=True)
class PartSpec(Spec):
    """A part of a ``sequence``: tasks of one data set, the same as in a benchmark of their own with this seed.

    kind: ``permuted``, ``rotated`` and ``split`` as in a benchmark; ``whole``: the data set is one task.
    dataset: a name, or the path of your own arrays; image folders are none.
    num_tasks: number of tasks (default: 1 for ``whole``, all for ``split``).
    angle_step_deg, permutation, classes_per_task, class_order: as in a benchmark.
    num_classes, shape: of your own arrays, found in them.
    """

    kind: Literal["permuted", "rotated", "split", "whole"]
    dataset: str
    num_tasks: int | None = None
    angle_step_deg: float | None = None
    permutation: Literal["named", "original"] | None = None
    classes_per_task: int | None = None
    class_order: Literal["file", "shuffled"] | None = None
    num_classes: int | None = None
    shape: tuple[int, ...] | None = None
