"""Evaluation with the task given, scenario GG."""

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa

from core.errors import DamagedFileError
from orchestrator.execution.plan import Plan, plan_jobs, with_files
from orchestrator.runs.given_counts import num_test_images, stored_counts
from orchestrator.runs.made_from import TableSources, table_sources
from orchestrator.runs.results import GIVEN, Result, Results, test_batches
from orchestrator.runs.run import Run
from orchestrator.stages.base import RunContext, Stage
from storage.arrow import numbers
from storage.layout import TableKey
from storage.locations import Location
from storage.mask_files import MaskFiles
from storage.tables import (
    Counts,
    given_metadata,
    given_table,
    read_evaluation,
    task_accuracies,
    write_evaluation,
)


class Given(Stage):
    """Tests each task's own mask on the test images of its task."""

    kind = "evaluate"
    verb = "testing masks (GG)"

    def prepare(self, context: RunContext) -> frozenset[TableKey]:
        """Load the counts of existing tables. Tables of tasks trained just now do not count as measured before."""
        run = context.run
        stored = stored_counts(run, table_sources(run, context.facts))
        old = stored.keys() - context.counts.keys()
        context.counts.update(stored)
        ks = run.config.evaluation.ks(run.config.benchmark.num_tasks)
        files = context.facts.files
        return frozenset(TableKey(GIVEN, k, test_batches(run)) for k in ks if old.issuperset(files.among(k)))

    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """See ``Stage``. Tasks tested right after training need no job."""
        del only
        most, files = _largest_k(context.run), context.facts.files
        untrained = set(range(most)) - files.keys()
        plan = plan_jobs(most, context.record.cohort_size, context.counts.keys() | untrained, kind=self.kind)
        return with_files(plan, files)

    def collect(self, context: RunContext) -> Results:
        """Write the table of each k whose tasks are all tested; return the accuracies."""
        run = context.run
        sources = table_sources(run, context.facts)
        sizes = num_test_images(run, context.dataset, range(_largest_k(run)))
        accuracies = write_evaluations(run, context.counts, sizes, sources, context.facts.files)
        return Results(
            Result(scenario=GIVEN, num_batches=test_batches(run), k=k, metrics={"accuracy": accuracy})
            for k, accuracy in accuracies.items()
        )


def _largest_k(run: Run) -> int:
    return max(run.config.evaluation.ks(run.config.benchmark.num_tasks))


def write_evaluations(
    run: Run, counts: Counts, num_test_images: Mapping[int, int], sources: TableSources, files: MaskFiles
) -> dict[int, float]:
    """Write GG-<k>.parquet for each k whose tasks are all tested; return accuracy by k.

    num_test_images: images in each task's test set. files: say which tasks are forgotten, and have no rows.
    """
    accuracies = {}
    for k in run.config.evaluation.ks(run.config.benchmark.num_tasks):
        tasks = files.among(k)
        if not tasks or any(task not in counts for task in tasks):
            continue
        table, masks = given_table(tasks, counts, num_test_images), sources.masks(k)
        path = run.layout.evaluation(TableKey("GG", k, test_batches(run)))
        if not _is_current(path, run.fingerprint, table, masks):
            if masks is None:
                continue  # a mask was lost since it was tested
            batches = run.config.evaluation.batches
            write_evaluation(path, table, given_metadata(k, run.fingerprint, batches, masks))
        accuracies[k] = float(np.mean(list(task_accuracies(table).values())))
    return accuracies


def _is_current(path: Location, fingerprint: str, table: pa.Table, masks: str | None) -> bool:
    try:
        stored = read_evaluation(path, fingerprint, masks)
    except DamagedFileError:
        return False
    return np.array_equal(numbers(stored["num_correct"]), numbers(table["num_correct"]))
