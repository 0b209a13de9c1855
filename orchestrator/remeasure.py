"""Measures stored masks once more, to compare with what their files and tables say: ``supsup verify --deep``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from core.data.datasets import Dataset
from core.data.test_rows import batch_sizes
from orchestrator.cluster.launch import make_executor
from orchestrator.cluster.resources import find_resources
from orchestrator.execution.executor import Executor
from orchestrator.execution.jobs import Job
from orchestrator.execution.plan import plan_jobs, with_files
from orchestrator.execution.progress import Display
from orchestrator.runs.dataset import run_dataset
from orchestrator.runs.given_counts import num_test_images, stored_counts
from orchestrator.runs.made_from import table_sources
from orchestrator.runs.run import Run
from storage.mask_facts import MaskFacts
from storage.run_file import RunRecord, read_run

# On another processor sums are rounded in another way, which moves an image or two across a boundary.
TOLERANCE = 0.002

# The correct images of each test batch, by task.
Counts = Mapping[int, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Remeasured:
    """num_tasks: that were measured. problems: a line for each accuracy that differs."""

    num_tasks: int
    problems: tuple[str, ...]


def remeasure(run: Run, facts: MaskFacts, data_folder: Path | None, display: Display) -> Remeasured:
    """Test every good mask of a run in this process, with the task given; write nothing.

    Raises DataError, RunFolderError and ConfigError.
    """
    config, record = run.config, read_run(run.layout)
    with display.doing(f"reading {config.benchmark.dataset}"):
        dataset = run_dataset(run, record, data_folder)
    inline = replace(config.executor, kind="inline", workers=1, address=None)
    whole = replace(config, executor=inline, evaluation=replace(config.evaluation, batches="all"))
    measured = _measure(replace(run, config=whole), record, facts, dataset, display)
    num_images = num_test_images(run, dataset, measured)
    sizes = {task: batch_sizes(num).tolist() for task, num in num_images.items()}
    return Remeasured(
        num_tasks=len(measured),
        problems=(
            *_against_files(measured, sizes, facts.table),
            *_against_tables(measured, sizes, stored_counts(run, table_sources(run, facts))),
        ),
    )


def _measure(run: Run, record: RunRecord, facts: MaskFacts, dataset: Dataset, display: Display) -> Counts:
    num_tasks = max(facts.files.keys(), default=-1) + 1
    missing = set(range(num_tasks)) - facts.files.keys()
    plan = with_files(plan_jobs(num_tasks, record.cohort_size, missing, kind="evaluate"), facts.files)
    executor = make_executor(run, record, dataset, find_resources(run.config.executor, connect=False))
    display.start("testing masks", plan.num_left, 0, num_jobs=len(plan.jobs))
    try:
        counts: dict[int, Sequence[int]] = {}
        for job in plan.jobs:
            counts |= _counts_of(executor, job, display)
        return counts
    finally:
        display.stop()
        executor.close()


def _counts_of(executor: Executor, job: Job, display: Display) -> dict[int, Sequence[int]]:
    executor.submit(job)
    (attempt,) = executor.collect(0.0)
    if attempt.error is not None:
        raise attempt.error
    assert attempt.result is not None, "an attempt has a result or an error"
    display.on_result(job, attempt.result)
    return dict(attempt.result.correct)


def _against_files(measured: Counts, sizes: Counts, table: pa.Table) -> list[str]:
    stored = dict(zip(table["task"].to_pylist(), table["test_accuracy"].to_pylist(), strict=True))
    return [
        _words(task, sum(counts), sum(sizes[task]), stored[task], "its mask file")
        for task, counts in measured.items()
        if _differs(sum(counts), stored[task] * sum(sizes[task]), sum(sizes[task]))
    ]


def _against_tables(measured: Counts, sizes: Counts, stored: Counts) -> list[str]:
    """Compare the counts of the test batches that the tables have."""
    found = []
    for task in sorted(measured.keys() & stored.keys()):
        num = len(stored[task])
        images, now, then = sum(sizes[task][:num]), sum(measured[task][:num]), sum(stored[task])
        if _differs(now, then, images):
            found.append(_words(task, now, images, then / images, "its GG table"))
    return found


def _differs(now: int, then: float, num_images: int) -> bool:
    return abs(now - then) > max(1.5, TOLERANCE * num_images)


def _words(task: int, num_correct: int, num_images: int, told: float, source: str) -> str:
    return (
        f"task {task}: measured {100 * num_correct / num_images:.2f} % on {num_images:,} test images, "
        f"but {source} says {100 * told:.2f} %"
    )
