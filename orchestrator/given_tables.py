"""Evaluation tables with the task given (scenario GG), from counts of correct images."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from core.data.test_rows import batch_sizes
from core.specs.run import TEST_BATCH_SIZE

Counts = Mapping[int, Sequence[int]]  # task -> correct images of each of its test batches


def given_table(k: int, counts: Counts, num_test_images: Mapping[int, int]) -> pa.Table:
    """Return the table of the first k tasks. num_test_images: in each task's test set."""
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
    """Return the metadata of the table; batches: ``all``, or how many of each task."""
    return {
        "scenario": "GG",
        "algorithm": "",
        "objective": "",
        "images": "",
        "batches": str(batches),
        "k": str(k),
        "fingerprint": fingerprint,
    }
