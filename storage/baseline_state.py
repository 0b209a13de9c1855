"""What a baseline has learned so far, ``baseline/state-00003-<digest>.npz``: all its values after three tasks."""

import re
from typing import Any

from numpy.typing import NDArray

from core.errors import DamagedFileError, ForeignFileError
from storage.arrays_file import Arrays, pack_arrays, read_arrays
from storage.files import commit_bytes
from storage.layout import RunLayout
from storage.locations import listed


def write_baseline(layout: RunLayout, num_tasks: int, values: Arrays, fingerprint: str) -> None:
    """Commit the values after ``num_tasks`` tasks, then remove those before."""
    content, digest = pack_arrays(values, {"fingerprint": fingerprint, "num_tasks": num_tasks})
    path = layout.baseline_state(num_tasks, digest)
    commit_bytes(path, content)
    for other in listed(layout.baseline):
        if other.name != path.name:
            other.unlink(missing_ok=True)


def read_baseline(layout: RunLayout, fingerprint: str) -> tuple[int, dict[str, NDArray[Any]]]:
    """Return how many tasks are learned, and the values; 0 and none where nothing can be used."""
    for num_tasks in sorted(_counts(layout), reverse=True):
        for path in listed(layout.baseline, layout.baseline_state(num_tasks, "*").name):
            try:
                return num_tasks, read_arrays(path, {"fingerprint": fingerprint, "num_tasks": num_tasks})
            except (DamagedFileError, ForeignFileError):
                continue
    return 0, {}


def num_learned(layout: RunLayout) -> int:
    """Return how many tasks are learned, by the names of files alone."""
    return max(_counts(layout), default=0)


def _counts(layout: RunLayout) -> set[int]:
    found = (re.fullmatch(r"state-(\d+)-[0-9a-f]+\.npz", path.name) for path in listed(layout.baseline))
    return {int(match[1]) for match in found if match}
