"""Files that are there whole or not at all: temporary name, sync, rename, sync the folder.

Holds on file systems where rename replaces atomically (local disks, NFS). A crash
leaves at most a temporary file, which ``remove_temporaries`` takes away. In an object store
the upload of all bytes stands in their place (``storage.locations``).
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.layout import temporary_path, temporary_writer
from storage.locations import AnyPath, ObjectPath


def commit(target: AnyPath, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file, then make it ``target``, replacing what was there."""
    if isinstance(target, ObjectPath):
        with tempfile.TemporaryDirectory(prefix="supsup-") as folder:
            temporary = Path(folder) / target.name
            write(temporary)
            target.write_bytes(temporary.read_bytes())
        return
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


def commit_bytes(target: AnyPath, content: bytes) -> None:
    """Commit a file of these bytes."""
    if isinstance(target, ObjectPath):
        target.write_bytes(content)
        return

    def write(path: Path) -> None:
        path.write_bytes(content)

    commit(target, write)


def commit_text(target: AnyPath, text: str) -> None:
    """Commit a text file in UTF-8."""
    commit_bytes(target, text.encode())


def commit_json(target: AnyPath, value: Any) -> None:
    """Commit ``value`` as indented JSON with sorted keys."""
    commit_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def parquet_source(path: AnyPath) -> Any:
    """Return what pyarrow reads a Parquet file from; an object is fetched whole, once."""
    return pa.BufferReader(path.read_bytes()) if isinstance(path, ObjectPath) else path


def temporaries(root: AnyPath) -> list[Path]:
    """List the temporary files anywhere below ``root``; object stores have none."""
    if isinstance(root, ObjectPath):
        return []
    return sorted(path for path in root.rglob(".*.tmp") if temporary_writer(path.name))


def remove_temporaries(root: AnyPath, is_alive: Callable[[str, int, Path], bool]) -> list[Path]:
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
