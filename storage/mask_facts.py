"""What the mask files of a run say besides their masks, read once for all that asks.

``MaskStore.facts`` makes it from one listing of ``masks/``, the index that an earlier command left
(``storage.facts_index``), and the files that are not in it.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, takewhile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import DamagedFileError, ForeignFileError, first_line
from storage.arrow import number_column, numbers, text_column
from storage.layout import forgotten_task, temporary_writer
from storage.locations import Entry, Location
from storage.mask_digests import MaskDigests
from storage.mask_files import MaskFiles
from storage.mask_info import MaskInfo

MADE_BY = ("engine", "device", "torch", "instructions", "blas")  # decides the last bits of a mask
FACTS_SCHEMA = pa.schema(
    [
        pa.field("task", pa.int32(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("density", pa.float32(), nullable=False),
        pa.field("test_accuracy", pa.float32(), nullable=False),
        pa.field("train_loss", pa.float32(), nullable=False),
        pa.field("train_seconds", pa.float32(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
        pa.field("encoding", pa.string(), nullable=False),
        pa.field("num_norm_bytes", pa.int64(), nullable=False),
        pa.field("worker", pa.string(), nullable=False),
        pa.field("started_s", pa.float64(), nullable=False),
        pa.field("finished_s", pa.float64(), nullable=False),
        pa.field("made_by", pa.string(), nullable=False),  # JSON list of the values of ``MADE_BY``
    ]
)
INFO_NAMES = FACTS_SCHEMA.names[:6]
LARGEST = float(np.finfo(np.float32).max)
# What was measured of a mask, and the most it can be.
MEASURED = {"density": 1.0, "test_accuracy": 1.0, "train_loss": LARGEST, "train_seconds": LARGEST}
BadFile = DamagedFileError | ForeignFileError


@dataclass(frozen=True)
class FileFacts:
    """The facts of one file as it was when listed (``entry``): a row per task, ``FACTS_SCHEMA``."""

    entry: Entry
    rows: pa.Table


@dataclass(frozen=True, eq=False)
class MaskFacts:
    """All facts at one moment. A frozen copy: masks stored later are not in it.

    files: where the masks are, by names. known: readable files, by name. problems: the others, by name.
    strays: names in the folder that no mask file has. num_read: how many files were opened for it.
    """

    files: MaskFiles
    known: "KnownFiles"
    problems: Mapping[str, BadFile]
    strays: tuple[str, ...] = ()
    num_read: int = 0

    @cached_property
    def table(self) -> pa.Table:
        """The readable tasks, ascending, each once: ``FACTS_SCHEMA``."""
        return self.known.rows.take(number_column(self._counted[0]))

    @cached_property
    def _counted(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The rows that count, by task, and the index of the file that each is in."""
        task_R = numbers(self.known.rows["task"])
        index = {name: number for number, name in enumerate(self.files.names)}
        files = np.array([index[name] for name in self.known.names], dtype=np.int32)
        file_R = np.repeat(files, self.known.num_rows)
        owners = np.append(self.files.owners, np.int32(-1))  # of tasks outside, which a file's name rules out
        kept = np.flatnonzero(owners[np.clip(task_R, -1, len(owners) - 1)] == file_R)
        order = kept[np.argsort(task_R[kept], kind="stable")]
        return order, file_R[order]

    def info_table(self) -> pa.Table:
        """Return the columns of ``report/tasks.parquet``. Raises the first of ``problems``."""
        self.require_good()
        return self.table.select(INFO_NAMES)

    def require_good(self) -> None:
        """Raise DamagedFileError or ForeignFileError if a file cannot be read."""
        for error in self.problems.values():
            raise error

    def infos(self) -> list[MaskInfo]:
        """Return the masks of readable files, by task."""
        columns = [name for name in self.table.column_names if name != "made_by"]
        values = [self.table[name].to_pylist() for name in columns]
        values.append([self.files.names[number] for number in self._counted[1]])
        columns.append("file")
        return [MaskInfo(**dict(zip(columns, row, strict=True))) for row in zip(*values, strict=True)]

    @cached_property
    def digest_of(self) -> dict[int, str]:
        """The digest (sha256, hex) of each readable mask, by task."""
        return dict(zip(self.table["task"].to_pylist(), self.table["digest"].to_pylist(), strict=True))

    @cached_property
    def digests(self) -> MaskDigests:
        """The digests of the leading masks, up to the first that is missing or unreadable; empty if forgotten."""
        known = self.digest_of | dict.fromkeys(self.files.forgotten, "")
        leading = takewhile(known.__contains__, count())
        return MaskDigests(tuple(known[task] for task in leading))

    @property
    def made_by(self) -> set[tuple[str, ...]]:
        """The distinct values of ``MADE_BY``."""
        return {tuple(json.loads(words)) for words in self.table["made_by"].unique().to_pylist()}


@dataclass(frozen=True, eq=False)
class KnownFiles:
    """Facts of many files: entries in any order, and their rows one after another, ``num_rows`` each."""

    entries: tuple[Entry, ...]
    num_rows: NDArray[np.int64]
    rows: pa.Table

    @classmethod
    def of(cls, found: Sequence[FileFacts]) -> "KnownFiles":
        """Join the facts of single files."""
        tables = [one.rows for one in found]
        rows = (
            pa.concat_tables(tables).combine_chunks()
            if tables
            else pa.Table.from_batches([], schema=FACTS_SCHEMA)
        )
        num_rows = np.array([len(table) for table in tables], dtype=np.int64)
        return cls(tuple(one.entry for one in found), num_rows, rows)

    @property
    def names(self) -> list[str]:
        """The name of each file."""
        return [entry.name for entry in self.entries]

    def among(self, there: Collection[Entry]) -> "KnownFiles":
        """Return the files that are still as they were."""
        kept_F = np.array([entry in there for entry in self.entries], dtype=bool)
        if kept_F.all():
            return self
        entries = tuple(entry for entry, is_kept in zip(self.entries, kept_F, strict=True) if is_kept)
        rows = self.rows.take(number_column(np.flatnonzero(np.repeat(kept_F, self.num_rows))))
        return KnownFiles(entries, self.num_rows[kept_F], rows)

    def joined(self, more: "KnownFiles") -> "KnownFiles":
        """Return both, which share no file."""
        if not more.entries:
            return self
        rows = pa.concat_tables([self.rows, more.rows]).combine_chunks()
        return KnownFiles((*self.entries, *more.entries), np.append(self.num_rows, more.num_rows), rows)


def gather(
    folder: Location, there: Sequence[Entry], before: KnownFiles, read: Callable[[Location], pa.Table]
) -> MaskFacts:
    """Return the facts of a folder that has ``there``, reading only files that ``before`` does not know as they are."""
    files = MaskFiles.of_names(folder, [entry.name for entry in there])
    named = set(files.names)
    kept = before.among({entry for entry in there if entry.name in named})
    known, fresh, problems = set(kept.entries), list[FileFacts](), dict[str, BadFile]()
    for entry in there:
        if entry.name not in named or entry in known:
            continue
        try:
            fresh.append(FileFacts(entry, read(folder / entry.name)))
        except (DamagedFileError, ForeignFileError) as error:
            problems[entry.name] = error
    strays = tuple(one.name for one in there if one.name not in named and not _is_expected(one.name))
    num_read = len(fresh) + len(problems)
    return MaskFacts(files, kept.joined(KnownFiles.of(fresh)), problems, strays, num_read)


def _is_expected(name: str) -> bool:
    return temporary_writer(name) is not None or forgotten_task(name) is not None


def facts_table(file: pq.ParquetFile, path: Location, table: pa.Table) -> pa.Table:
    """Return the facts of one file. table: its rows, at least without masks. Raises DamagedFileError."""
    made, num = provenance(file, path), len(table)
    _check_measured(path, table)
    started_s, finished_s = _when(path, made, sum(table["train_seconds"].to_pylist()))
    is_gaps = _is_gaps(table)
    columns: dict[str, Any] = {name: table[name] for name in INFO_NAMES}
    columns |= _sizes(file, is_gaps)
    columns["encoding"] = text_column(["gaps" if of_gaps else "bits" for of_gaps in is_gaps])
    columns["worker"] = text_column([f"{made.get('host', 'unknown')}-{made.get('process_id', 0)}"] * num)
    columns["started_s"], columns["finished_s"] = (number_column([s] * num) for s in (started_s, finished_s))
    columns["made_by"] = text_column([json.dumps([str(made[key]) for key in MADE_BY if key in made])] * num)
    return pa.table([columns[name] for name in FACTS_SCHEMA.names], schema=FACTS_SCHEMA)


def _check_measured(path: Location, table: pa.Table) -> None:
    """Raise DamagedFileError for a measurement that no mask has."""
    for name, highest in MEASURED.items():
        found = numbers(table[name])
        wrong = np.flatnonzero(~((found >= 0) & (found <= highest)))
        if len(wrong):
            task, value = table["task"][int(wrong[0])], found[wrong[0]]
            expected = "from 0 to 1" if highest == 1 else "from 0"
            raise DamagedFileError(
                f"{path}: task {task}: its {name} is {value:g}, expected a number {expected}"
            )


def _when(path: Location, made: Mapping[str, Any], num_s: float) -> tuple[float, float]:
    """Return when the work on a file began and ended, Unix times. num_s: how long it took, if it says no more."""
    try:
        finished_s = float(made["finished_s"])
        started_s = float(made.get("started_s", finished_s - num_s))
    except (KeyError, TypeError, ValueError, OverflowError):
        started_s = finished_s = math.nan
    if not (math.isfinite(started_s) and math.isfinite(finished_s)):
        raise DamagedFileError(f"{path}: its provenance does not say when it was made")
    return started_s, finished_s


def _is_gaps(table: pa.Table) -> list[bool]:
    """Return which masks are stored as gaps, rather than bits; files of older versions have only bits."""
    known = "rare_bit" in table.column_names
    return pc.is_valid(table["rare_bit"]).to_pylist() if known else [False] * len(table)


def _sizes(file: pq.ParquetFile, is_gaps: Sequence[bool]) -> dict[str, pa.Array]:
    """Return the stored bytes of each mask and of its statistics."""
    metadata, names = file.metadata, file.schema_arrow.names
    index = {of_gaps: names.index("gaps" if of_gaps else "bits") for of_gaps in set(is_gaps)}
    norms = names.index("norm_stats")
    groups = [metadata.row_group(number) for number in range(len(is_gaps))]
    masks = [
        group.column(index[one]).total_compressed_size for group, one in zip(groups, is_gaps, strict=True)
    ]
    stats = [group.column(norms).total_compressed_size for group in groups]
    return {"num_bytes": number_column(masks), "num_norm_bytes": number_column(stats)}


def provenance(file: pq.ParquetFile, path: Location) -> dict[str, Any]:
    """Return what was recorded when a file was made. Raises DamagedFileError."""
    try:
        found = json.loads(file.schema_arrow.metadata[b"supsup.provenance"])
    except (KeyError, ValueError, RecursionError) as error:
        raise DamagedFileError(
            f"{path}: its supsup.provenance cannot be read ({first_line(error)})"
        ) from error
    if not isinstance(found, dict):
        raise DamagedFileError(f"{path}: its supsup.provenance is {str(found)[:40]!r}, expected a mapping")
    return found
