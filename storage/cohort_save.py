"""Saves of cohorts in training, ``saves/cohort-00000-00003-<digest>.npz``: gone when the cohort is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from core.errors import DamagedFileError, ForeignFileError
from storage.arrays_file import Arrays, pack_arrays, read_arrays
from storage.files import commit_bytes
from storage.layout import RunLayout
from storage.locations import Location, listed


@dataclass(frozen=True)
class FoundSave:
    """The save that can be used, None without any; and what was wrong with others, in words."""

    arrays: dict[str, NDArray[Any]] | None
    problems: tuple[str, ...]


def write_save(layout: RunLayout, first: int, last: int, arrays: Arrays, header: Mapping[str, Any]) -> None:
    """Commit a save of tasks ``first`` to ``last``, then remove those before it."""
    content, digest = pack_arrays(arrays, header)
    path = layout.cohort_save(first, last, digest)
    commit_bytes(path, content)
    for other in _saves(layout, first, last):
        if other.name != path.name:
            other.unlink(missing_ok=True)


def read_save(layout: RunLayout, first: int, last: int, header: Mapping[str, Any]) -> FoundSave:
    """Return a save of tasks ``first`` to ``last`` whose header is ``header``."""
    problems: list[str] = []
    for path in _saves(layout, first, last):
        try:
            return FoundSave(read_arrays(path, header), tuple(problems))
        except (DamagedFileError, ForeignFileError) as error:
            problems.append(f"{error}; this save is ignored")
    return FoundSave(None, tuple(problems))


def remove_saves(layout: RunLayout, first: int, last: int) -> None:
    """Remove the saves of a cohort that is stored."""
    for path in _saves(layout, first, last):
        path.unlink(missing_ok=True)


def _saves(layout: RunLayout, first: int, last: int) -> list[Location]:
    return listed(layout.saves, layout.cohort_save(first, last, "*").name)
