"""``report/matrix-<label>.parquet``: the accuracy matrix R[k, j] of one scenario and method, checked against its tables."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from core.errors import DamagedFileError, StaleFileError
from storage.arrow import numbers
from storage.files import read_sealed
from storage.layout import RunLayout, TableKey
from storage.locations import Location
from storage.tables import check_masks, read_evaluation, task_accuracies, write_table

MATRIX_SCHEMA = pa.schema(
    [
        pa.field("k", pa.int32(), nullable=False),
        pa.field("task", pa.int32(), nullable=False),
        pa.field("accuracy", pa.float64(), nullable=False),
    ]
)


def write_matrix(layout: RunLayout, key: TableKey, table: pa.Table, fingerprint: str, masks: str) -> None:
    """Commit a matrix, a row per entry. key: of the table of its largest k. masks: joint digest of those behind that."""
    ks = dict.fromkeys(numbers(table["k"]).tolist())
    metadata = {
        "label": key.label,
        "batches": "all" if key.num_batches is None else str(key.num_batches),
        "ks": ",".join(map(str, ks)),
        "fingerprint": fingerprint,
        "masks": masks,
    }
    write_table(layout.matrix(key), table.cast(MATRIX_SCHEMA), metadata)


def read_matrix(path: Location, fingerprint: str) -> tuple[pa.Table, dict[str, str], list[TableKey]]:
    """Return a verified matrix, its metadata, and the keys of its tables, k ascending. Raises DamagedFileError."""
    table, metadata = read_sealed(path)
    if metadata.get("supsup.fingerprint") != fingerprint or table.schema != MATRIX_SCHEMA:
        raise DamagedFileError(f"{path} is not an accuracy matrix of run {fingerprint[:8]}")
    try:
        batches = metadata["supsup.batches"]
        num_batches = None if batches == "all" else int(batches)
        ks = [int(k) for k in metadata["supsup.ks"].split(",")]
        keys = [TableKey(metadata["supsup.label"], k, num_batches) for k in ks]
    except (KeyError, ValueError) as error:
        raise DamagedFileError(f"{path} does not say which tables it was made from") from error
    if path.name != RunLayout(path.parent.parent).matrix(keys[0]).name:
        raise DamagedFileError(f"{path} is the matrix of {keys[0].label} by what it says itself; remove it")
    return table, metadata, keys


def check_matrix(
    path: Location, layout: RunLayout, fingerprint: str, masks: Callable[[int], str | None]
) -> None:
    """Raise DamagedFileError, or StaleFileError if a matrix says other than its tables. masks: of k, as for ``read_derived``."""
    matrix, metadata, keys = read_matrix(path, fingerprint)
    check_masks(path, metadata, masks(keys[-1].k))
    k_R, accuracy_R = numbers(matrix["k"]), numbers(matrix["accuracy"])
    for key in keys:
        table = layout.evaluation(key)
        if not table.exists():
            continue
        wanted = [*task_accuracies(read_evaluation(table, fingerprint, None)).values()]
        if not np.array_equal(accuracy_R[k_R == key.k], wanted):
            raise StaleFileError(f"{path}: its row k = {key.k} is not what {table.name} says")
