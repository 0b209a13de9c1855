"""Tombstones: which tasks of a run were forgotten, when and why. They hold no bits of the masks.

Their names alone, in ``masks/``, say which tasks are forgotten (``storage.mask_files``), so that nothing has to be
opened to know it.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from storage.files import commit_json
from storage.json_file import STRICT, read_json
from storage.layout import RunLayout


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """digest: sha256, hex, of the mask that was removed, None if there never was one. forgotten_s: Unix time."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    task: int
    digest: str | None
    forgotten_s: float
    reason: str | None = None


def write_tombstone(layout: RunLayout, tombstone: Tombstone) -> None:
    """Commit a tombstone. From then on the task's mask does not count, even where it is still in a file."""
    commit_json(layout.tombstone(tombstone.task), asdict(tombstone))


def read_tombstone(layout: RunLayout, task: int) -> Tombstone:
    """Return the tombstone of a task. Raises DamagedFileError, or OSError without one."""
    return read_json(layout.tombstone(task), Tombstone)
