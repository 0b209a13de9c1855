"""Evaluation tables: their columns, how they are written and read, and the table with the task given.

A table has one row per inference, usually one per test batch of a task.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.data.test_rows import batch_sizes
from core.errors import DamagedFileError
from core.specs.inference import TEST_BATCH_SIZE
from storage.files import commit, parquet_source
from storage.locations import Location

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
# With the task inferred. rank: of the true task, 1 is best, null if it is not among the five best.
# exact_task: the answer of exact one-shot, if it was run to check a shortlist. gap: the margin by which
# the true task ranks above the best wrong one (``core.data.test_rows.InferredRows``).
UNGAPPED_SCHEMA = EVALUATION_SCHEMA.append(pa.field("rank", pa.int32())).append(
    pa.field("exact_task", pa.int32())
)  # tables of older versions
INFERENCE_SCHEMA = UNGAPPED_SCHEMA.append(pa.field("gap", pa.float32()))
# With masks recovered from a Hopfield memory. num_correct_given: images that the task's own mask
# classifies correctly, null where the masks no longer exist.
RECOVERED_SCHEMA = EVALUATION_SCHEMA.append(pa.field("num_correct_given", pa.int32()))
RECOVERY_STEP_SCHEMA = pa.schema(
    [
        pa.field("task", pa.int32(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("hamming", pa.int32(), nullable=True),
        pa.field("energy", pa.float64(), nullable=False),
        pa.field("entropy", pa.float64(), nullable=True),
    ]
)
_SCHEMAS = {
    "gap": INFERENCE_SCHEMA,
    "rank": UNGAPPED_SCHEMA,
    "num_correct_given": RECOVERED_SCHEMA,
    "energy": RECOVERY_STEP_SCHEMA,
}
Counts = Mapping[int, Sequence[int]]  # task -> correct images of each of its test batches


def commit_table(path: Location, table: pa.Table) -> None:
    """Commit a table, with page checksums."""
    commit(path, lambda p: pq.write_table(table, p, compression="zstd", write_page_checksum=True))


def read_table(path: Location) -> pa.Table:
    """Read a whole table and verify its checksums. Raises DamagedFileError."""
    try:
        return pq.ParquetFile(parquet_source(path), page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(f"{path} cannot be read: {str(error)[:160]}") from error


def write_evaluation(path: Location, table: pa.Table, metadata: Mapping[str, str]) -> None:
    """Commit an evaluation table; ``metadata`` keys are given without the ``supsup.`` prefix."""
    known = [schema for column, schema in _SCHEMAS.items() if column in table.column_names]
    schema = known[0] if known else EVALUATION_SCHEMA
    tagged = table.cast(schema).replace_schema_metadata(
        {f"supsup.{key}": value for key, value in metadata.items()}
    )
    commit_table(path, tagged)


def read_evaluation(path: Location, fingerprint: str) -> pa.Table:
    """Read an evaluation table of the run ``fingerprint``. Raises DamagedFileError."""
    table = read_table(path)
    found = (table.schema.metadata or {}).get(b"supsup.fingerprint", b"").decode()
    if found != fingerprint or table.schema.remove_metadata() not in (EVALUATION_SCHEMA, *_SCHEMAS.values()):
        raise DamagedFileError(f"{path} is not an evaluation table of run {fingerprint[:8]}")
    return table


def task_accuracies(table: pa.Table) -> dict[int, float]:
    """Return each task's accuracy, the fraction of its images that are correct."""
    return task_shares(table, table["num_correct"])


def task_shares(table: pa.Table, num_right: pa.ChunkedArray) -> dict[int, float]:
    """Return, by task, ``num_right`` summed over its rows as a fraction of its images."""
    table = table.select(["task", "num_images"]).append_column("num_correct", num_right)
    sums = table.group_by("task").aggregate([("num_correct", "sum"), ("num_images", "sum")])
    accuracy = pc.divide(pc.cast(sums["num_correct_sum"], pa.float64()), sums["num_images_sum"])
    return dict(zip(sums["task"].to_pylist(), accuracy.to_pylist(), strict=True))


def given_table(k: int, counts: Counts, num_test_images: Mapping[int, int]) -> pa.Table:
    """Return the table of the first k tasks, with the task given (scenario GG).

    num_test_images: size of each task's test set.
    """
    columns: dict[str, list[Any]] = {"task": [], "batch": [], "first_image": [], "num_images": []}
    num_correct: list[int] = []
    for task in range(k):
        num = len(counts[task])
        columns["task"] += [task] * num
        columns["batch"] += range(num)
        columns["first_image"] += range(0, num * TEST_BATCH_SIZE, TEST_BATCH_SIZE)
        columns["num_images"] += batch_sizes(num_test_images[task])[:num].tolist()
        num_correct += counts[task]
    inferred = pa.nulls(len(num_correct), pa.int32())
    return pa.table({**columns, "inferred_task": inferred, "num_correct": num_correct})


def given_metadata(k: int, fingerprint: str, batches: int | str) -> dict[str, str]:
    """Return the metadata of ``given_table``. batches: ``all``, or the number per task."""
    return {
        "scenario": "GG",
        "algorithm": "",
        "objective": "",
        "images": "",
        "batches": str(batches),
        "k": str(k),
        "fingerprint": fingerprint,
    }
