"""The mask store: one immutable Parquet file per cohort, one row and row group per task.

A row group per task costs about 800 bytes per mask and lets a reader fetch one mask without
the bytes of the others. FORMAT.md describes the format.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import DamagedFileError, ForeignFileError, RunFolderError, first_line
from core.masks.bits import (
    bits_digest,
    check_padding,
    from_gaps,
    num_ones,
    packed_num_bytes,
    rare_bit,
    to_gaps,
)
from storage.files import KEY, check_seal, commit_bytes, decoded, parquet_source, sealed_masks
from storage.layout import RunLayout, cohort_range
from storage.locations import Location, listed

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
        num_weights = sum(int(np.prod(shape)) for shape in self.identity.shapes)
        for mask in masks:
            check_padding(np.frombuffer(mask.bits, dtype=np.uint8), self.identity.shapes)
        rows = [mask.row(num_weights) for mask in masks]
        version = FORMAT_VERSION if all(row["gaps"] is None for row in rows) else GAPS_VERSION
        table = pa.Table.from_pylist(rows, schema=SCHEMAS[version])
        content = sealed_masks(table, self.identity.metadata(provenance, version))
        target = self.layout.cohort(masks[0].task, masks[-1].task)
        commit_bytes(target, content)
        return target

    def files(self) -> list[Location]:
        """List the files with names of mask files, sorted by name."""
        return [path for path in listed(self.layout.masks) if cohort_range(path.name)]

    def locate(self) -> dict[int, Location]:
        """Map each task to the first file, by name, whose name covers it."""
        locations: dict[int, Location] = {}
        for path in self.files():
            first, last = cohort_range(path.name) or (0, -1)
            for task in range(first, last + 1):
                locations.setdefault(task, path)
        return locations

    def read(self, task: int) -> TaskMask:
        """Return one verified mask; reads no other mask's bits.

        Raises RunFolderError (no such task), DamagedFileError or ForeignFileError.
        """
        return next(self.iterate([task]))

    def iterate(self, tasks: Iterable[int]) -> Iterator[TaskMask]:
        """Yield verified masks one at a time, each file opened once for tasks in order."""
        locations, opened, current = self.locate(), None, None
        for task in tasks:
            path = locations.get(task)
            if path is None:
                raise RunFolderError(f"{self.layout.root} has no mask of task {task}; run it first")
            if opened is None or path != current:
                opened, current = self.open(path), path
            yield self._read_row(opened, path, task)

    def info_table(self) -> pa.Table:
        """Return all columns but the masks and statistics, one row per task, ascending.

        Raises DamagedFileError or ForeignFileError.
        """
        locations = self.locate()
        tables = [
            _owned(_guard(path, lambda p: self.open(p).read(columns=INFO_COLUMNS)), path, locations)
            for path in sorted(set(locations.values()))
        ]
        schema = pa.schema([SCHEMA.field(name) for name in INFO_COLUMNS])
        return pa.concat_tables(tables).sort_by("task") if tables else schema.empty_table()

    def provenance(self, path: Location) -> dict[str, Any]:
        """Return what was recorded when the file was made: versions, device, engine, time."""
        return _provenance(self.open(path), path)

    def file_info(self, path: Location) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return a file's rows without their masks, and its provenance.

        Each row also has its stored sizes, ``num_bytes`` of the mask and ``num_norm_bytes`` of its
        statistics, and ``encoding``, bits or gaps. Raises DamagedFileError or ForeignFileError.
        """
        file = self.open(path)
        names = file.schema_arrow.names
        columns = [name for name in (*INFO_COLUMNS, "rare_bit") if name in names]
        rows: list[dict[str, Any]] = _guard(path, lambda _: file.read(columns=columns)).to_pylist()
        for number, row in enumerate(rows):
            group = file.metadata.row_group(number)
            sizes = {name: group.column(names.index(name)).total_compressed_size for name in names}
            row["encoding"] = "bits" if row.pop("rare_bit", None) is None else "gaps"
            row["num_bytes"], row["num_norm_bytes"] = sizes[row["encoding"]], sizes["norm_stats"]
        return rows, _provenance(file, path)

    def open(self, path: Location) -> pq.ParquetFile:
        """Open a mask file of this run. Raises DamagedFileError or ForeignFileError."""
        file = _guard(path, lambda p: pq.ParquetFile(parquet_source(p), page_checksum_verification=True))
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
        file = self.open(path)
        table = _guard(path, lambda _: file.read())
        try:
            check_seal(path.read_bytes(), decoded(file.schema_arrow.metadata).get(KEY, ""))
        except DamagedFileError as error:
            raise DamagedFileError(f"{path}: {error}") from error
        first, last = cohort_range(path.name) or (0, -1)
        tasks: list[int] = table["task"].to_pylist()
        if tasks != list(range(first, last + 1)):
            raise DamagedFileError(f"{path}: holds tasks {tasks[:3]}..., but its name says {first} to {last}")
        for row in table.to_pylist():
            self._check_row(path, self._with_bits(path, row))
        return tasks

    def _read_row(self, file: pq.ParquetFile, path: Location, task: int) -> TaskMask:
        first, _ = cohort_range(path.name) or (0, 0)
        if not 0 <= task - first < file.num_row_groups:
            raise DamagedFileError(f"{path}: has no row for task {task}, though its name says so")
        row = _guard(path, lambda _: file.read_row_group(task - first).to_pylist()[0])
        if row["task"] != task:
            raise DamagedFileError(f"{path}: found task {row['task']} where task {task} belongs")
        row = self._with_bits(path, row)
        self._check_row(path, row)
        keys = ("task", "bits", "test_accuracy", "train_loss", "train_seconds", "norm_stats")
        return TaskMask(**{key: row[key] for key in keys})

    def _with_bits(self, path: Location, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with its mask as bits. Raises DamagedFileError."""
        gaps = row.get("gaps")
        if gaps is None:
            return {**row, "bits": row["bits"] or b""}
        num_bytes = packed_num_bytes(self.identity.shapes)
        try:
            packed = from_gaps(np.frombuffer(gaps, dtype=np.uint8), row["rare_bit"], num_bytes)
        except (ValueError, TypeError) as error:
            raise DamagedFileError(f"{path}: task {row['task']}: {error}") from error
        return {**row, "bits": packed.tobytes()}

    def _check_row(self, path: Location, row: dict[str, Any]) -> None:
        if bits_digest(row["bits"]) != row["digest"]:
            raise DamagedFileError(f"{path}: task {row['task']}: the mask does not match its digest")
        if len(row["norm_stats"] or b"") % np.dtype(np.float32).itemsize:
            raise DamagedFileError(f"{path}: task {row['task']}: its norm_stats are no float32 numbers")
        check_padding(np.frombuffer(row["bits"], dtype=np.uint8), self.identity.shapes)

    def _check_identity(self, path: Location, metadata: dict[bytes, bytes]) -> None:
        found = decoded(metadata)
        version = GAPS_VERSION if found.get("supsup.format_version") == str(GAPS_VERSION) else FORMAT_VERSION
        for key, expected in self.identity.metadata({}, version).items():
            value = found.get(key, "")
            if key != "supsup.provenance" and value != expected:
                raise ForeignFileError(
                    f"{path} belongs to another run: {key} is {value[:80]!r}, expected {expected[:80]!r}"
                )


def norm_statistics(masks: Sequence[TaskMask]) -> NDArray[np.float32] | None:
    """Return the running statistics of masks, float32 [K, S]; None for networks without any."""
    stored = [mask.norm_stats for mask in masks if mask.norm_stats is not None]
    if not stored:
        return None
    return np.stack([np.frombuffer(values, dtype="<f4") for values in stored]).astype(np.float32)


def first_statistics(store: MaskStore, num_tasks: int) -> NDArray[np.float32] | None:
    """Return the statistics of the first tasks, as ``norm_statistics``; reads masks only if there are any."""
    if "norms" not in store.identity.network:
        return None
    return norm_statistics(list(store.iterate(range(num_tasks))))


def _provenance(file: pq.ParquetFile, path: Location) -> dict[str, Any]:
    try:
        found = json.loads(file.schema_arrow.metadata[b"supsup.provenance"])
    except (KeyError, ValueError, RecursionError) as error:
        raise DamagedFileError(
            f"{path}: its supsup.provenance cannot be read ({first_line(error)})"
        ) from error
    if not isinstance(found, dict):
        raise DamagedFileError(f"{path}: its supsup.provenance is {str(found)[:40]!r}, expected a mapping")
    return found


def _owned(table: pa.Table, path: Location, locations: dict[int, Location]) -> pa.Table:
    """Return the rows of the tasks whose location is ``path``."""
    return table.filter(pa.array([locations.get(task) == path for task in table["task"].to_pylist()]))


def _guard(path: Location, read: Callable[[Location], T]) -> T:
    """Turn any error that Parquet raises on damaged bytes into a DamagedFileError that names the file."""
    try:
        return read(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} cannot be read: {first_line(error)[:160]}") from error
