"""Parts of a table of task inference: what workers have finished of one that is not whole yet."""

import numpy as np
import pyarrow as pa

from core.data.test_rows import InferredRows
from storage.layout import RunLayout, TableKey
from storage.tables import INFERENCE_SCHEMA, write_evaluation


def write_part(
    layout: RunLayout, fingerprint: str, key: TableKey, rows: list[tuple[int, InferredRows]]
) -> None:
    """Commit the rows of contiguous tasks, given as (task, rows)."""
    table = pa.concat_tables([_rows_table(task, inferred) for task, inferred in rows])
    path = layout.evaluation_part(key, rows[0][0], rows[-1][0])
    write_evaluation(path, table, {"fingerprint": fingerprint, "k": str(key.k)})


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
