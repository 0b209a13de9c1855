"""Evaluation tables: one row per inference, that is, per test batch of a task."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import DamagedFileError
from storage.files import commit

EVALUATION_SCHEMA = pa.schema(
    [
        pa.field("task", pa.int32(), nullable=False),
        pa.field("batch", pa.int32(), nullable=False),
        pa.field("first_image", pa.int32(), nullable=False),
        pa.field("num_images", pa.int32(), nullable=False),
        pa.field("inferred_task", pa.int32(), nullable=True),
        pa.field("num_correct", pa.int32(), nullable=False),
    ]
)


def write_evaluation(path: Path, table: pa.Table, metadata: Mapping[str, str]) -> None:
    """Commit an evaluation table; ``metadata`` keys are given without the ``supsup.`` prefix."""
    tagged = table.cast(EVALUATION_SCHEMA).replace_schema_metadata(
        {f"supsup.{key}": value for key, value in metadata.items()}
    )
    commit(path, lambda p: pq.write_table(tagged, p, compression="zstd", write_page_checksum=True))


def read_evaluation(path: Path, fingerprint: str) -> pa.Table:
    """Read an evaluation table of the run ``fingerprint``. Raises DamagedFileError."""
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(f"{path} cannot be read: {str(error)[:160]}") from error
    found = (table.schema.metadata or {}).get(b"supsup.fingerprint", b"").decode()
    if found != fingerprint or not table.schema.equals(EVALUATION_SCHEMA):
        raise DamagedFileError(f"{path} is not an evaluation table of run {fingerprint[:8]}")
    return table


def task_accuracies(table: pa.Table) -> dict[int, float]:
    """Return each task's accuracy: correct images over images, a fraction."""
    sums = table.group_by("task").aggregate([("num_correct", "sum"), ("num_images", "sum")])
    accuracy = pc.divide(pc.cast(sums["num_correct_sum"], pa.float64()), sums["num_images_sum"])
    return dict(zip(sums["task"].to_pylist(), accuracy.to_pylist(), strict=True))
