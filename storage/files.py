"""Commit files atomically, and seal Parquet files with a checksum over every byte.

A committed file exists whole or not at all: it is written under a temporary name, synced and
renamed, then its folder is synced. This holds on file systems where rename replaces atomically
(local disks, NFS). A crash leaves at most a temporary file, which ``remove_temporaries`` removes. In
an object store a single upload of all bytes takes the place of these steps (``storage.locations``).

Parquet checks its pages but not its footer, which holds names, metadata and offsets. A sealed file
is first written with a placeholder as the value of ``supsup.checksum``; the sha256 (hex) of those
bytes then replaces the placeholder, which has the same length.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import DamagedFileError, first_line
from storage.layout import temporary_path, temporary_writer
from storage.locations import Location, ObjectPath, plain_file

KEY = "supsup.checksum"
PLACEHOLDER = "sha256 of this file with these 64 characters where its hex stands".ljust(64, ".")[:64]
# Bits at density 0.5 do not compress; a higher level only costs time.
ZSTD_LEVEL = 3
# Gaps come within 1.02 of the entropy, at level 3 within 1.12 (perf/results); 10 to 90 ms per million weights.
GAPS_ZSTD_LEVEL = 19


def commit(target: Location, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file, then rename it to ``target``, replacing any old file."""
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
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # A full disk has a number; errors of our own have none, and keep their type.
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror or str(error), str(target)) from error
        raise
    _sync(target.parent)


def allocate(path: Path, num_bytes: int) -> None:
    """Reserve space for a file of ``num_bytes``, before it is mapped. Raises OSError if the disk lacks it."""
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except OSError as error:
            raise OSError(
                error.errno, f"{error.strerror}; it needs {num_bytes:,} bytes", str(path)
            ) from error


def commit_bytes(target: Location, content: bytes) -> None:
    """Commit a file with this content."""
    if isinstance(target, ObjectPath):
        target.write_bytes(content)
        return

    def write(path: Path) -> None:
        path.write_bytes(content)

    commit(target, write)


def commit_text(target: Location, text: str) -> None:
    """Commit a text file in UTF-8."""
    commit_bytes(target, text.encode())


def commit_json(target: Location, value: Any) -> None:
    """Commit ``value`` as indented JSON with sorted keys."""
    commit_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def parquet_source(path: Location) -> Any:
    """Return a source from which pyarrow reads a Parquet file; an object is fetched whole, once."""
    return pa.BufferReader(path.read_bytes()) if isinstance(path, ObjectPath) else plain_file(path)


def temporaries(root: Location) -> list[Path]:
    """List the temporary files anywhere below ``root``; object stores have none."""
    if isinstance(root, ObjectPath):
        return []
    # ``os.walk`` reads each folder once, ``Path.rglob`` twice.
    found = ((folder, name) for folder, _, names in os.walk(root) for name in names)
    return sorted(Path(folder, name) for folder, name in found if temporary_writer(name))


def remove_temporaries(root: Location, is_alive: Callable[[str, int, Path], bool]) -> list[Path]:
    """Remove and return the temporaries whose writer is dead: ``is_alive(host, pid, path)`` is false."""
    return list(_remove_dead(temporaries(root), is_alive))


def sealed_masks(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a sealed Parquet file of masks, with one row group per row."""
    levels = {name: GAPS_ZSTD_LEVEL if name == "gaps" else ZSTD_LEVEL for name in table.column_names}
    options = {"compression_level": levels, "use_dictionary": False, "write_statistics": False}
    return sealed_parquet(table, metadata, row_group_size=1, **options)


def sealed_parquet(
    table: pa.Table, metadata: Mapping[str, str], *, row_group_size: int | None = None, **options: Any
) -> bytes:
    """Return the bytes of a sealed Parquet file. options: of pyarrow's ``ParquetWriter``.

    The Arrow schema is left out, as Parquet's own suffices.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True, store_schema=False, **options
    ) as writer:
        writer.write_table(table, row_group_size=row_group_size)
        writer.add_key_value_metadata({**metadata, KEY: PLACEHOLDER})
    return seal(sink.getvalue().to_pybytes())


def read_sealed(path: Location) -> tuple[pa.Table, dict[str, str]]:
    """Return the verified rows of a sealed Parquet file, without metadata, and its metadata.

    Raises DamagedFileError. A file without a seal, as older versions wrote them, has no ``KEY`` in its metadata
    and is verified by its page checksums alone.
    """
    try:
        content = plain_file(path).read_bytes()
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        table, metadata = file.read(), decoded(file.schema_arrow.metadata)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFileError(f"{path} cannot be read: {first_line(error)[:160]}") from error
    if KEY in metadata:
        try:
            check_seal(content, metadata[KEY])
        except DamagedFileError as error:
            raise DamagedFileError(f"{path}: {error}") from error
    return table.replace_schema_metadata(None), metadata


def read_header(path: Location) -> dict[str, str]:
    """Return the metadata of a Parquet file, without its rows; nothing is verified. Raises DamagedFileError."""
    try:
        return decoded(pq.ParquetFile(parquet_source(path)).schema_arrow.metadata)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFileError(f"{path} cannot be read: {first_line(error)[:160]}") from error


def decoded(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """Decode metadata that may be damaged; damaged text then fails a comparison instead of raising."""
    items = (metadata or {}).items()
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in items}


def seal(content: bytes) -> bytes:
    """Replace the placeholder, which occurs once, with the checksum."""
    assert content.count(PLACEHOLDER.encode()) == 1, "the placeholder must occur once"
    checksum = hashlib.sha256(content).hexdigest()
    return content.replace(PLACEHOLDER.encode(), checksum.encode())


def check_seal(content: bytes, checksum: str) -> None:
    """Raise DamagedFileError unless ``content`` was sealed with ``checksum``."""
    unsealed = content.replace(checksum.encode(), PLACEHOLDER.encode(), 1) if checksum else content
    if hashlib.sha256(unsealed).hexdigest() != checksum:
        raise DamagedFileError("its bytes do not match its checksum")


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
