"""The correct images of each task, as tested with the task given, in the stored tables."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from core.data.benchmarks import task_view
from core.data.datasets import Dataset
from core.errors import DamagedFileError
from orchestrator.runs.made_from import TableSources
from orchestrator.runs.results import test_batches
from orchestrator.runs.run import Run
from storage.arrow import numbers
from storage.layout import TableKey
from storage.locations import listed
from storage.tables import read_evaluation


def num_test_images(run: Run, dataset: Dataset, tasks: Iterable[int]) -> dict[int, int]:
    """Return the number of test images by task."""
    benchmark, seed = run.config.benchmark, run.config.seed
    if benchmark.kind in ("permuted", "rotated"):  # each task has all images
        return dict.fromkeys(tasks, len(dataset.test_labels))
    return {task: len(task_view(benchmark, dataset, task, seed=seed).test_rows) for task in tasks}


def stored_counts(run: Run, sources: TableSources) -> dict[int, tuple[int, ...]]:
    """Return the GG counts in good evaluation files made from the masks of now, by task."""
    counts: dict[int, tuple[int, ...]] = {}
    for path in listed(run.layout.evaluations, "GG-*.parquet"):
        key = TableKey.parse(path.stem)
        if key is None or key.num_batches != test_batches(run):
            continue
        try:
            counts |= _counts_by_task(read_evaluation(path, run.fingerprint, sources.masks(key.k)))
        except DamagedFileError:
            continue  # recomputed from the masks
    return counts


def _counts_by_task(table: pa.Table) -> dict[int, tuple[int, ...]]:
    tasks, counts = numbers(table["task"]), numbers(table["num_correct"])
    starts = np.flatnonzero(np.diff(tasks, prepend=-1))
    each = zip(tasks[starts].tolist(), np.split(counts, starts[1:]), strict=True)
    return {task: tuple(of_task.tolist()) for task, of_task in each}
