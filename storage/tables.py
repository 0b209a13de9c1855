"""Evaluation tables: their columns, how they are written and read, and the table with the task given.

A table has one row per inference, usually one per test batch of a task.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.errors import DamagedFileError, StaleFileError
from core.specs.inference import TEST_BATCH_SIZE
from storage.arrow import number_column, numbers
from storage.files import commit_bytes, read_sealed, sealed_parquet
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
# the true task ranks above the best wrong one. deciding_image: index in the data set's test images of the
# image that decided, or of the first that did (``core.data.test_rows.InferredRows``).
UNGAPPED_SCHEMA = EVALUATION_SCHEMA.append(pa.field("rank", pa.int32())).append(
    pa.field("exact_task", pa.int32())
)  # tables of older versions, as are those without deciding_image
UNDECIDED_SCHEMA = UNGAPPED_SCHEMA.append(pa.field("gap", pa.float32()))
INFERENCE_SCHEMA = UNDECIDED_SCHEMA.append(pa.field("deciding_image", pa.int32()))
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
    "deciding_image": INFERENCE_SCHEMA,
    "gap": UNDECIDED_SCHEMA,
    "rank": UNGAPPED_SCHEMA,
    "num_correct_given": RECOVERED_SCHEMA,
    "energy": RECOVERY_STEP_SCHEMA,
}
_ALL_SCHEMAS = (EVALUATION_SCHEMA, *_SCHEMAS.values())
NAMED_BY = ("scenario", "algorithm", "objective", "images")  # keys of the metadata that begin a table's name
STEPS_NAME = "recovery-"
Counts = Mapping[int, Sequence[int]]  # task -> correct images of each of its test batches


def write_table(path: Location, table: pa.Table, metadata: Mapping[str, str]) -> None:
    """Commit a sealed table; ``metadata`` keys are given without the ``supsup.`` prefix.

    ``masks`` among them is the joint digest of the masks it was made from, empty without masks.
    """
    tags = {f"supsup.{key}": value for key, value in metadata.items()}
    commit_bytes(path, sealed_parquet(table.replace_schema_metadata(None), tags))


def read_derived(path: Location, masks: str | None) -> pa.Table:
    """Return a verified table that was made from the masks with the joint digest ``masks``.

    masks: None where they are not all there any more, so that nothing can be compared. Raises DamagedFileError,
    or StaleFileError if it was made from other masks.
    """
    table, metadata = read_sealed(path)
    check_masks(path, metadata, masks)
    return table


def check_masks(path: Location, metadata: Mapping[str, str], masks: str | None) -> None:
    """Raise StaleFileError if a file with this metadata was made from other masks (see ``read_derived``)."""
    found = metadata.get("supsup.masks", "")
    if masks is not None and found != masks:
        was = f"masks {found[:8]}" if found else "masks that it does not name"
        raise StaleFileError(f"{path} was made from {was}; those of the run are {masks[:8] or 'none'}")


def write_evaluation(path: Location, table: pa.Table, metadata: Mapping[str, str]) -> None:
    """Commit an evaluation table, as ``write_table``."""
    known = [schema for column, schema in _SCHEMAS.items() if column in table.column_names]
    write_table(path, table.cast(known[0] if known else EVALUATION_SCHEMA), metadata)


def read_evaluation(path: Location, fingerprint: str, masks: str | None) -> pa.Table:
    """Return an evaluation table of the run ``fingerprint``, made from ``masks`` (see ``read_derived``).

    Raises DamagedFileError or StaleFileError.
    """
    table, metadata = read_sealed(path)
    if metadata.get("supsup.fingerprint") != fingerprint or table.schema not in _ALL_SCHEMAS:
        raise DamagedFileError(f"{path} is not an evaluation table of run {fingerprint[:8]}")
    if path.parent.parent.name != "parts":
        check_name(path, metadata)
        if path.name.startswith(STEPS_NAME) != (table.schema == RECOVERY_STEP_SCHEMA):
            raise DamagedFileError(f"{path} has the columns of a table of another name; rename or remove it")
    check_masks(path, metadata, masks)
    return table


def check_name(path: Location, metadata: Mapping[str, str]) -> None:
    """Raise DamagedFileError if a table with this metadata belongs under another name; early versions gave none."""
    if "supsup.scenario" not in metadata:
        return
    words = [metadata.get(f"supsup.{word}", "") for word in NAMED_BY]
    label, k = "-".join(filter(None, words)), metadata.get("supsup.k", "")
    batches = metadata.get("supsup.batches", "all")
    ending = f"-{k}" if batches == "all" else f"-{k}-b{batches}"
    found = (
        path.stem.replace(STEPS_NAME, f"{words[0]}-", 1) if path.name.startswith(STEPS_NAME) else path.stem
    )
    if not (found.startswith(f"{label}-") and found.endswith(ending)):
        raise DamagedFileError(
            f"{path} is the table {label}{ending} by what it says itself; rename or remove it"
        )


def task_accuracies(table: pa.Table) -> dict[int, float]:
    """Return each task's accuracy, the fraction of its images that are correct."""
    return task_shares(table, numbers(table["num_correct"]))


def task_shares(table: pa.Table, num_right: NDArray[Any], of: NDArray[Any] | None = None) -> dict[int, float]:
    """Return, by task, ``num_right`` summed over its rows as a fraction of its images, or of the sum of ``of``."""
    tasks, row_R = np.unique(numbers(table["task"]), return_inverse=True)
    whole_R = numbers(table["num_images"]) if of is None else of
    shares = np.bincount(row_R, num_right) / np.bincount(row_R, whole_R)
    return dict(zip(tasks.tolist(), shares.tolist(), strict=True))


def given_table(tasks: Sequence[int], counts: Counts, num_test_images: Mapping[int, int]) -> pa.Table:
    """Return the table of ``tasks``, with the task given (scenario GG).

    num_test_images: size of each task's test set.
    """
    num_rows = [len(counts[task]) for task in tasks]
    starts = np.cumsum([0, *num_rows])
    batches = np.arange(starts[-1]) - np.repeat(starts[:-1], num_rows)
    images = np.repeat([num_test_images[task] for task in tasks], num_rows)
    columns = {
        "task": np.repeat(np.array(tasks), num_rows),
        "batch": batches,
        "first_image": batches * TEST_BATCH_SIZE,
        "num_images": np.minimum(TEST_BATCH_SIZE, images - batches * TEST_BATCH_SIZE),
        "num_correct": np.fromiter(chain.from_iterable(counts[task] for task in tasks), np.int64),
    }
    table = pa.table({name: number_column(column) for name, column in columns.items()})
    inferred = pa.nulls(len(table), pa.int32())
    return table.add_column(table.column_names.index("num_correct"), "inferred_task", inferred)


def given_metadata(k: int, fingerprint: str, batches: int | str, masks: str) -> dict[str, str]:
    """Return the metadata of ``given_table``. batches: ``all``, or the number per task. masks: joint digest."""
    return {
        "scenario": "GG",
        "algorithm": "",
        "objective": "",
        "images": "",
        "batches": str(batches),
        "k": str(k),
        "fingerprint": fingerprint,
        "masks": masks,
    }
