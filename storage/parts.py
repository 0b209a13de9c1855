"""Parts of an evaluation table: the rows that workers have finished while it is incomplete.

As with mask files, a part that is on disk, readable and made from the current masks is done. The merged table is the same
for any number of workers, in any order and after any crash.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.data.test_rows import InferredRows
from core.errors import DamagedFileError
from storage.layout import RunLayout, TableKey
from storage.locations import listed, remove_tree
from storage.tables import INFERENCE_SCHEMA, read_evaluation, write_evaluation


@dataclass(frozen=True)
class PartsOf:
    """The parts of one table. masks: joint digest of the masks that they are made from, empty without masks.

    forgotten: which of its first k tasks have no rows.
    """

    layout: RunLayout
    fingerprint: str
    key: TableKey
    masks: str
    forgotten: tuple[int, ...] = ()

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of each part, for ``write_evaluation``."""
        return {"fingerprint": self.fingerprint, "k": str(self.key.k), "masks": self.masks}


def write_part(of: PartsOf, rows: list[tuple[int, InferredRows]]) -> None:
    """Commit the rows of contiguous tasks, given as (task, rows)."""
    table = pa.concat_tables([_rows_table(task, inferred) for task, inferred in rows])
    path = of.layout.evaluation_part(of.key, rows[0][0], rows[-1][0])
    write_evaluation(path, table, of.metadata)


def stored_tasks(of: PartsOf) -> set[int]:
    """Return the tasks that good parts hold."""
    return {task for part in _parts(of, "tasks") for task in pc.unique(part["task"]).to_pylist()}


def whole_table(of: PartsOf, kind: str = "tasks") -> pa.Table | None:
    """Return all good parts as one table, with each task once, or None while tasks are missing."""
    seen: set[int] = set()
    kept = []
    for part in _parts(of, kind):
        fresh = set(pc.unique(part["task"]).to_pylist()) - seen
        kept.append(part.filter(pc.is_in(part["task"], pa.array(sorted(fresh), pa.int32()))))
        seen |= fresh
    # Parts of older versions lack a column.
    is_whole = seen.issuperset(set(range(of.key.k)) - set(of.forgotten))
    return pa.concat_tables(kept, promote_options="default") if is_whole else None


def drop_parts(of: PartsOf) -> None:
    """Remove the parts of a table that has been written."""
    parts = of.layout.evaluation_parts(of.key)
    remove_tree(parts)
    if isinstance(parts, Path):
        with contextlib.suppress(OSError):  # parts of other tables are still there
            parts.parent.rmdir()


def _parts(of: PartsOf, kind: str) -> Iterator[pa.Table]:
    for path in listed(of.layout.evaluation_parts(of.key), f"{kind}-*.parquet"):
        try:
            yield read_evaluation(path, of.fingerprint, of.masks)
        except DamagedFileError:
            continue  # made again from the masks


def _rows_table(task: int, rows: InferredRows) -> pa.Table:
    columns = {
        "task": np.full_like(rows.batch, task),
        **{name: getattr(rows, name) for name in INFERENCE_SCHEMA.names if name != "task"},
    }
    arrays = {name: pa.array(values) for name, values in columns.items()}
    arrays["rank"] = pa.array(rows.rank, mask=rows.rank == 0)
    arrays["gap"] = pa.array(rows.gap, from_pandas=True)
    arrays["exact_task"] = pa.array(rows.exact_task, mask=rows.exact_task < 0)
    return pa.table(arrays).cast(INFERENCE_SCHEMA)
