"""One part of a sequence of tasks: a data set and its tasks. No numpy, no torch."""

from dataclasses import dataclass
from typing import Literal

from core.specs.base import Spec


@dataclass(frozen=True, kw_only=True)
class PartSpec(Spec):
    """A part of a ``sequence``: tasks of one data set, the same as in a benchmark of their own with this seed.

    kind: ``permuted``, ``rotated`` and ``split`` as in a benchmark; ``whole``: the data set is one task.
    dataset: as in a benchmark; an ``image_folder`` is decoded into memory.
    num_tasks: number of tasks (default: 1 for ``whole``, all for ``split``).
    angle_step_deg, permutation, classes_per_task, class_order: as in a benchmark.
    folder, image_size: of an ``image_folder``. num_classes: of one, or of your own data, found in them.
    shape: of your own data, found in them.
    """

    kind: Literal["permuted", "rotated", "split", "whole"]
    dataset: str
    num_tasks: int | None = None
    angle_step_deg: float | None = None
    permutation: Literal["named", "original"] | None = None
    classes_per_task: int | None = None
    class_order: str | tuple[int, ...] | None = None
    folder: str | None = None
    num_classes: int | None = None
    image_size: int | None = None
    shape: tuple[int, ...] | None = None
