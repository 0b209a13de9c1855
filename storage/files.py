"""Files that are there whole or not at all: temporary name, sync, rename, sync the folder.

Holds on file systems where rename replaces atomically (local disks, NFS). A crash
leaves at most a temporary file, which ``remove_temporaries`` takes away.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from storage.layout import temporary_path, temporary_writer


def commit(target: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file, then make it ``target``, replacing what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(target)
    try:
        write(temporary)
        _sync(temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def commit_bytes(target: Path, content: bytes) -> None:
    """Commit a file of these bytes."""

    def write(path: Path) -> None:
        path.write_bytes(content)

    commit(target, write)


def commit_text(target: Path, text: str) -> None:
    """Commit a text file in UTF-8."""
    commit_bytes(target, text.encode())


def commit_json(target: Path, value: Any) -> None:
    """Commit ``value`` as indented JSON with sorted keys."""
    commit_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def temporaries(root: Path) -> list[Path]:
    """List the temporary files anywhere below ``root``."""
    return sorted(path for path in root.rglob(".*.tmp") if temporary_writer(path.name))


def remove_temporaries(root: Path, is_alive: Callable[[str, int, Path], bool]) -> list[Path]:
    """Remove and return the temporaries whose writer ``is_alive(host, pid, path)`` denies."""
    return list(_remove_dead(temporaries(root), is_alive))


def _remove_dead(paths: Iterable[Path], is_alive: Callable[[str, int, Path], bool]) -> Iterable[Path]:
    for path in paths:
        writer = temporary_writer(path.name)
        if writer is not None and not is_alive(*writer, path):
            path.unlink(missing_ok=True)
            yield path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
