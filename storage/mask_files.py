"""Which file holds which task's mask, and which tasks are forgotten: one listing of ``masks/``, by names alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from storage.layout import cohort_range, forgotten_task
from storage.locations import Location


@dataclass(frozen=True, eq=False)
class MaskFiles(Mapping[int, Location]):
    """The file of each task, for all tasks whose mask is stored: the first file by name that covers it.

    names: of the files, sorted. owners: int32 [largest task + 1], the index of each task's file, -1 without one.
    forgotten: tasks with a tombstone, which have no mask whatever the files say.
    """

    folder: Location
    names: tuple[str, ...]
    owners: NDArray[np.int32]
    forgotten: frozenset[int] = frozenset()

    @classmethod
    def of_names(cls, folder: Location, names: Iterable[str]) -> "MaskFiles":
        """Return the files with these names, leaving out names that neither a mask file nor a tombstone has."""
        names = list(names)
        forgotten = frozenset(task for name in names if (task := forgotten_task(name)) is not None)
        ranges = {name: found for name in sorted(names) if (found := cohort_range(name)) is not None}
        owners = np.full(max((last + 1 for _, last in ranges.values()), default=0), -1, dtype=np.int32)
        # From the last to the first, which so has the last word.
        for index, (first, last) in reversed([*enumerate(ranges.values())]):
            owners[first : last + 1] = index
        owners[[task for task in forgotten if task < len(owners)]] = -1
        return cls(folder, tuple(ranges), owners, forgotten)

    def __getitem__(self, task: int) -> Location:
        if task not in self:
            raise KeyError(task)
        return self.folder / self.name_of(task)

    def __contains__(self, task: object) -> bool:
        if not isinstance(task, int):
            return False
        return 0 <= task < len(self.owners) and bool(self.owners[task] >= 0)

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self.owners >= 0).tolist())

    def __len__(self) -> int:
        return int(np.count_nonzero(self.owners >= 0))

    @cached_property
    def num_leading(self) -> int:
        """How many tasks there are, forgotten ones included, before the first that still lacks its file."""
        end = max(len(self.owners), max(self.forgotten, default=-1) + 1)
        is_missing = np.ones(end + 1, dtype=bool)
        is_missing[np.flatnonzero(self.owners >= 0)] = False
        is_missing[list(self.forgotten)] = False
        return int(is_missing.argmax())

    @cached_property
    def leading(self) -> tuple[int, ...]:
        """Those of these tasks that have a mask: what task inference searches."""
        return self.among(self.num_leading)

    def among(self, k: int) -> tuple[int, ...]:
        """Return which of the first ``k`` tasks are not forgotten."""
        return tuple(task for task in range(k) if task not in self.forgotten)

    def name_of(self, task: int) -> str:
        """Return the name of the file that holds a task."""
        return self.names[int(self.owners[task])]

    def holding(self, tasks: Sequence[int]) -> tuple[str, ...]:
        """Return the names of the files that hold any of ``tasks``, for whoever reads only those."""
        return tuple(dict.fromkeys(self.name_of(task) for task in tasks if task in self))
