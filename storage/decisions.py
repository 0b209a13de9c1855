"""The decision log of a stream without task ids: written, read and scored. One row per decision."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from core.errors import DamagedFileError
from core.stream.allocation import AllocationScore, Choice, score_allocation
from storage.files import read_sealed
from storage.layout import RunLayout
from storage.tables import write_table

DECISION_SCHEMA = pa.schema(
    [
        pa.field("decision", pa.int32(), nullable=False),
        pa.field("batch", pa.int64(), nullable=False),
        pa.field("num_batches", pa.int32(), nullable=False),
        pa.field("num_masks", pa.int32(), nullable=False),
        pa.field("num_candidates", pa.int32(), nullable=False),
        pa.field("max_nu", pa.float64(), nullable=True),
        pa.field("action", pa.string(), nullable=False),
        pa.field("mask", pa.int32(), nullable=True),
        pa.field("rolled_back", pa.bool_(), nullable=False),
        pa.field("digest", pa.string(), nullable=True),
        pa.field("visit", pa.int32(), nullable=False),
        pa.field("true_task", pa.int32(), nullable=False),
    ]
)
Rows = list[dict[str, Any]]


def write_decisions(
    layout: RunLayout, rows: Sequence[Mapping[str, Any]], fingerprint: str, *, is_complete: bool
) -> None:
    """Commit the log. is_complete: whether the stream has ended and its masks are stored."""
    metadata = {"fingerprint": fingerprint, "is_complete": str(is_complete).lower()}
    write_table(layout.decisions, pa.Table.from_pylist(list(rows), schema=DECISION_SCHEMA), metadata)


def read_decisions(layout: RunLayout, fingerprint: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the rows and whether the stream is complete; ([], False) without a log.

    Raises DamagedFileError.
    """
    path = layout.decisions
    if not path.exists():
        return [], False
    table, metadata = read_sealed(path)
    if metadata.get("supsup.fingerprint") != fingerprint or table.schema != DECISION_SCHEMA:
        raise DamagedFileError(f"{path} is not the decision log of run {fingerprint[:8]}")
    return table.to_pylist(), metadata.get("supsup.is_complete") == "true"


def choices_of(rows: Rows) -> list[tuple[Choice, int]]:
    """Return (choice, true task) of each row."""
    keys = ("action", "mask", "num_masks", "num_candidates", "max_nu")
    return [(Choice(**{key: row[key] for key in keys}), row["true_task"]) for row in rows]


def score_rows(rows: Rows) -> AllocationScore:
    """Score the decisions of a log."""
    return score_allocation(choices_of(rows))
