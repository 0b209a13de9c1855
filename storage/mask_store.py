"""The mask store: one immutable Parquet file per cohort, one row and row group per task.

A row group per task costs about 800 bytes per mask and lets a reader fetch one mask without
the bytes of the others. FORMAT.md describes the format.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import DamagedFileError, ForeignFileError, RunFolderError, first_line
from core.masks.bits import bits_digest, check_padding, num_ones, rare_bit, to_gaps
from storage.facts_index import keep_index, read_index
from storage.files import KEY, check_seal, commit_bytes, decoded, parquet_source, sealed_masks
from storage.layout import RunLayout, cohort_range
from storage.locations import Entry, Location, entries, plain_file
from storage.mask_facts import KnownFiles, MaskFacts, facts_table, gather, provenance
from storage.mask_files import MaskFiles
from storage.mask_rows import RowChecks

T = TypeVar("T")

FORMAT_VERSION = 1
GAPS_VERSION = 2  # of files with masks stored as gaps
SCHEMA = pa.schema(
    [
        pa.field("task", pa.int32(), nullable=False),
        pa.field("bits", pa.binary(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("density", pa.float32(), nullable=False),
        pa.field("test_accuracy", pa.float32(), nullable=False),
        pa.field("train_loss", pa.float32(), nullable=False),
        pa.field("train_seconds", pa.float32(), nullable=False),
        pa.field("norm_stats", pa.binary(), nullable=True),
    ]
)
# A row has either bits, or gaps and the rare bit that they lead to (``core.masks.bits``).
GAPS_SCHEMA = pa.schema(
    [
        SCHEMA.field("task"),
        pa.field("bits", pa.binary(), nullable=True),
        pa.field("gaps", pa.binary(), nullable=True),
        pa.field("rare_bit", pa.int8(), nullable=True),
        *(SCHEMA.field(name) for name in SCHEMA.names[2:]),
    ]
)
SCHEMAS = {FORMAT_VERSION: SCHEMA, GAPS_VERSION: GAPS_SCHEMA}
INFO_COLUMNS = [name for name in SCHEMA.names if name not in ("bits", "norm_stats")]
BIT_COLUMNS = ("task", "bits", "gaps", "rare_bit", "digest")
MASK_COLUMNS = (*BIT_COLUMNS, "test_accuracy", "train_loss", "train_seconds", "norm_stats")
TASK_MASK_KEYS = ("task", "bits", "test_accuracy", "train_loss", "train_seconds", "norm_stats")
MAX_READ_BYTES = 2**25  # of masks in memory at a time


@dataclass(frozen=True, kw_only=True)
class StoreIdentity:
    """The identity that every mask file of a run carries and a reader compares.

    layers: (name, shape) in order. network: kind, seed, outputs and digest.
    """

    fingerprint: str
    layers: tuple[tuple[str, tuple[int, ...]], ...]
    network: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each layer."""
        return tuple(name for name, _ in self.layers)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each layer's mask."""
        return tuple(shape for _, shape in self.layers)

    def metadata(self, provenance: dict[str, Any], version: int = FORMAT_VERSION) -> dict[str, str]:
        """Return the key-value metadata of a mask file, without its checksum."""
        layers = [{"name": name, "shape": list(shape)} for name, shape in self.layers]
        return {
            "supsup.format_version": str(version),
            "supsup.fingerprint": self.fingerprint,
            "supsup.layers": json.dumps(layers),
            "supsup.network": json.dumps(self.network, sort_keys=True),
            "supsup.provenance": json.dumps(provenance, sort_keys=True),
        }


@dataclass(frozen=True, kw_only=True)
class TaskMask:
    """One row: a packed mask and its measurements. Fractions in [0, 1], loss in nats."""

    task: int
    bits: bytes
    test_accuracy: float
    train_loss: float
    train_seconds: float
    norm_stats: bytes | None = None

    def row(self, num_weights: int) -> dict[str, Any]:
        """Return the columns of the mask file, with the mask as gaps if those are smaller."""
        packed = np.frombuffer(self.bits, dtype=np.uint8)
        rare = rare_bit(num_ones(packed), num_weights)
        return {
            **vars(self),
            "bits": self.bits if rare is None else None,
            "gaps": None if rare is None else to_gaps(packed, rare).tobytes(),
            "rare_bit": rare,
            "digest": bits_digest(self.bits),
            "density": self.density(num_weights),
        }

    def density(self, num_weights: int) -> float:
        """Return the fraction of the network's weights that the mask keeps."""
        return num_ones(np.frombuffer(self.bits, dtype=np.uint8)) / num_weights


@dataclass(frozen=True)
class MaskStore:
    """Reads and writes the mask files of one run; its only state is their location and identity."""

    layout: RunLayout
    identity: StoreIdentity

    def write_cohort(self, masks: Sequence[TaskMask], provenance: dict[str, Any]) -> Location:
        """Commit one cohort, tasks ascending and contiguous, as one file; return its path."""
        for mask in masks:
            check_padding(np.frombuffer(mask.bits, dtype=np.uint8), self.identity.shapes)
        rows = [mask.row(self._checks.num_weights) for mask in masks]
        version = FORMAT_VERSION if all(row["gaps"] is None for row in rows) else GAPS_VERSION
        table = pa.Table.from_pylist(rows, schema=SCHEMAS[version])
        content = sealed_masks(table, self.identity.metadata(provenance, version))
        target = self.layout.cohort(masks[0].task, masks[-1].task)
        commit_bytes(target, content)
        return target

    def files(self) -> list[Location]:
        """List the files with names of mask files, sorted by name."""
        return [self.layout.masks / name for name in self.locate().names]

    def locate(self) -> MaskFiles:
        """Map each task to the first file, by name, whose name covers it. This lists the folder."""
        return self.named(entry.name for entry in entries(self.layout.masks))

    def named(self, names: Iterable[str]) -> MaskFiles:
        """Return the same for files whose names are known, without listing anything."""
        return MaskFiles.of_names(self.layout.masks, names)

    def read(self, task: int) -> TaskMask:
        """Return one verified mask; reads no other mask's bits.

        Raises RunFolderError (no such task), DamagedFileError or ForeignFileError.
        """
        return next(self.iterate([task]))

    def iterate(self, tasks: Iterable[int], files: MaskFiles | None = None) -> Iterator[TaskMask]:
        """Yield verified masks one at a time, each file opened once for tasks in order.

        files: where they are, if that is known; None lists the folder.
        """
        for row in self._rows(tasks, files, MASK_COLUMNS):
            yield TaskMask(**{key: row[key] for key in TASK_MASK_KEYS})

    def iterate_bits(
        self, tasks: Iterable[int], files: MaskFiles | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield the packed bits alone, uint8 [packed_num_bytes], verified in the same way."""
        for row in self._rows(tasks, files, BIT_COLUMNS):
            yield np.frombuffer(row["bits"], dtype=np.uint8)

    def statistics(self, tasks: Iterable[int], files: MaskFiles | None = None) -> NDArray[np.float32] | None:
        """Return the running statistics of tasks, as ``norm_statistics``, without reading their masks."""
        rows = [row["norm_stats"] for row in self._rows(tasks, files, ("task", "norm_stats"))]
        return _stacked(rows)

    def _rows(
        self, tasks: Iterable[int], files: MaskFiles | None, columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield verified rows; tasks in order that share a file are read from it in one call."""
        files = self.locate() if files is None else files
        for name, group in groupby(tasks, key=lambda task: self._file_of(files, task)):
            path = self.layout.masks / name
            file = self.open(path)
            for few in _batched(group, max(1, MAX_READ_BYTES // self._checks.mask_num_bytes)):
                yield from self._read_rows(file, path, few, columns)

    def _file_of(self, files: MaskFiles, task: int) -> str:
        if task in files.forgotten:
            raise RunFolderError(f"{self.layout.root}: task {task} was forgotten, so it has no mask")
        if task not in files:
            raise RunFolderError(f"{self.layout.root} has no mask of task {task}; run it first")
        return files.name_of(task)

    @property
    def _carried(self) -> dict[str, str]:
        """The metadata that files of every version must carry."""
        own = self._expected[FORMAT_VERSION]
        return {key: own[key] for key in ("supsup.fingerprint", "supsup.layers", "supsup.network")}

    @cached_property
    def _checks(self) -> RowChecks:
        num = sum(2 * num_channels for _, num_channels in self.identity.network.get("norms", ()))
        return RowChecks(self.identity.shapes, num)

    @cached_property
    def _expected(self) -> dict[int, dict[str, str]]:
        """The metadata that files of each version must carry."""
        return {version: self.identity.metadata({}, version) for version in SCHEMAS}

    def facts(self, before: MaskFacts | None = None) -> MaskFacts:
        """Return what the files say besides their masks: one listing, and a read of each new file.

        before: of an earlier moment; None starts from the index. Files that cannot be read are left out.
        """
        known = read_index(self.layout, self._carried) if before is None else before.known
        return gather(self.layout.masks, entries(self.layout.masks), known, self.file_facts)

    def facts_of(self, names: Iterable[str]) -> MaskFacts:
        """Return the facts of files with known names, without listing the folder or reading its index."""
        there = [Entry(name, 0, 0) for name in sorted(names)]
        return gather(self.layout.masks, there, KnownFiles.of(()), self.file_facts)

    def verified_facts(self) -> MaskFacts:
        """Return the facts of all files after verifying them whole: every byte, digest and padding bit."""
        there = entries(self.layout.masks)
        return gather(self.layout.masks, there, KnownFiles.of(()), self.verified_file_facts)

    def keep_facts(self, facts: MaskFacts) -> None:
        """Leave the facts to later commands, in the index, if that saves them enough work."""
        keep_index(self.layout, self._carried, facts)

    def info_table(self) -> pa.Table:
        """Return all columns but the masks and statistics, one row per task, ascending.

        Raises DamagedFileError or ForeignFileError.
        """
        return self.facts().info_table()

    def provenance(self, path: Location) -> dict[str, Any]:
        """Return what was recorded when the file was made: versions, device, engine, time."""
        return provenance(self.open(path), path)

    def file_facts(self, path: Location) -> pa.Table:
        """Return what a file says besides its masks, a row per task (``FACTS_SCHEMA``).

        Raises DamagedFileError or ForeignFileError.
        """
        file = self.open(path)
        columns = [name for name in (*INFO_COLUMNS, "rare_bit") if name in file.schema_arrow.names]
        table = _guard(path, lambda _: file.read(columns=columns, use_threads=False))
        return facts_table(file, path, table)

    def open(self, path: Location) -> pq.ParquetFile:
        """Open a mask file of this run. Raises DamagedFileError or ForeignFileError."""
        return self._opened(path, _guard(path, parquet_source))

    def _opened(self, path: Location, source: Any) -> pq.ParquetFile:
        options = {"page_checksum_verification": True, "pre_buffer": False}
        file = _guard(path, lambda _: pq.ParquetFile(source, **options))
        self._check_identity(path, file.schema_arrow.metadata or {})
        version = int(decoded(file.schema_arrow.metadata)["supsup.format_version"])
        if not file.schema_arrow.equals(SCHEMAS[version]):
            raise ForeignFileError(f"{path} does not have the columns of a mask file; see FORMAT.md")
        num_rows, num_groups = file.metadata.num_rows, file.metadata.num_row_groups
        if not num_rows or num_rows != num_groups:
            raise DamagedFileError(
                f"{path}: found {num_rows} rows in {num_groups} row groups, expected one mask in each"
            )
        return file

    def check(self, path: Location) -> list[int]:
        """Verify a whole file and return its tasks. Raises DamagedFileError or ForeignFileError."""
        tasks: list[int] = self.verified_file_facts(path)["task"].to_pylist()
        return tasks

    def verified_file_facts(self, path: Location) -> pa.Table:
        """Verify a whole file, which is read once, and return its facts, as ``file_facts``."""
        content = _guard(path, lambda p: plain_file(p).read_bytes())
        file = self._opened(path, pa.BufferReader(content))
        table = _guard(path, lambda _: file.read(use_threads=False))
        try:
            check_seal(content, decoded(file.schema_arrow.metadata).get(KEY, ""))
        except DamagedFileError as error:
            raise DamagedFileError(f"{path}: {error}") from error
        first, last = cohort_range(path.name) or (0, -1)
        tasks: list[int] = table["task"].to_pylist()
        if tasks != list(range(first, last + 1)):
            raise DamagedFileError(f"{path}: holds tasks {tasks[:3]}..., but its name says {first} to {last}")
        for row in _guard(path, lambda _: table.to_pylist()):
            self._checks.check_density(path, self._checks.checked(path, row))
            self._checks.check_statistics(path, row)
        return facts_table(file, path, table)

    def _read_rows(
        self, file: pq.ParquetFile, path: Location, tasks: Sequence[int], columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        first, _ = cohort_range(path.name) or (0, 0)
        numbers, names = [task - first for task in tasks], file.schema_arrow.names
        absent = [task for task, number in zip(tasks, numbers, strict=True) if number >= file.num_row_groups]
        if absent:
            raise DamagedFileError(f"{path}: has no row for task {absent[0]}, though its name says so")
        kept = [name for name in columns if name in names]
        table = _guard(path, lambda _: file.read_row_groups(numbers, columns=kept, use_threads=False))
        for task, row in zip(tasks, _guard(path, lambda _: table.to_pylist()), strict=True):
            if row["task"] != task:
                raise DamagedFileError(f"{path}: found task {row['task']} where task {task} belongs")
            if "norm_stats" in columns:
                self._checks.check_statistics(path, row)
            yield self._checks.checked(path, row) if "digest" in row else row

    def _check_identity(self, path: Location, metadata: dict[bytes, bytes]) -> None:
        found = decoded(metadata)
        version = GAPS_VERSION if found.get("supsup.format_version") == str(GAPS_VERSION) else FORMAT_VERSION
        for key, expected in self._expected[version].items():
            value = found.get(key, "")
            if key != "supsup.provenance" and value != expected:
                raise ForeignFileError(
                    f"{path} belongs to another run: {key} is {value[:80]!r}, expected {expected[:80]!r}"
                )


def norm_statistics(masks: Sequence[TaskMask]) -> NDArray[np.float32] | None:
    """Return the running statistics of masks, float32 [K, S]; None for networks without any."""
    return _stacked([mask.norm_stats for mask in masks])


def _stacked(stored: Sequence[bytes | None]) -> NDArray[np.float32] | None:
    values = [np.frombuffer(one, dtype="<f4") for one in stored if one is not None]
    return np.stack(values).astype(np.float32) if values else None


def first_statistics(store: MaskStore, num_masks: int) -> NDArray[np.float32] | None:
    """Return the statistics of the first masks, as ``norm_statistics``; reads files only if there are any."""
    if "norms" not in store.identity.network:
        return None
    files = store.locate()
    return store.statistics(files.leading[:num_masks], files)


def _batched(tasks: Iterator[int], num: int) -> Iterator[list[int]]:
    while few := list(islice(tasks, num)):
        yield few


def _guard(path: Location, read: Callable[[Location], T]) -> T:
    """Turn any error that Parquet raises on damaged bytes into a DamagedFileError that names the file."""
    try:
        return read(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} cannot be read: {first_line(error)[:160]}") from error
