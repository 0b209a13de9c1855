"""Evaluation tables of inferred tasks and recovered masks: merge parts, compute metrics."""

from abc import abstractmethod
from collections.abc import Collection
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from core.errors import DamagedFileError
from orchestrator.execution.jobs import InferenceRequest, RecoveryRequest, Request, parts_of
from orchestrator.execution.plan import Plan, join_plans, plan_jobs, with_files
from orchestrator.runs.results import Metrics, Result, Results
from orchestrator.runs.run import Run
from orchestrator.stages.base import RunContext, Stage
from storage.arrow import number_column, numbers
from storage.layout import TableKey
from storage.locations import Location
from storage.mask_facts import MaskFacts
from storage.parts import drop_parts, stored_tasks, whole_table
from storage.tables import (
    INFERENCE_SCHEMA,
    read_derived,
    read_evaluation,
    task_accuracies,
    task_shares,
    write_evaluation,
    write_table,
)

CONFUSION_SCHEMA = pa.schema(
    [
        pa.field("task", pa.int32(), nullable=False),
        pa.field("inferred_task", pa.int32()),
        pa.field("num_inferences", pa.int64()),
        pa.field("num_images", pa.int64()),
    ]
)
ORDER = [("task", "ascending"), ("batch", "ascending"), ("first_image", "ascending")]


R = TypeVar("R", InferenceRequest, RecoveryRequest)


class TableStage(Stage, Generic[R]):
    """Fills evaluation tables, one per request and scenario. method: label for the display.

    reads_masks: whether each job reads the masks of its own tasks, rather than all by the bank.
    """

    tasks_per_job: int
    reads_masks = False

    def __init__(self, method: str) -> None:
        self.verb = f"{self.verb} ({method})"
        self._known: dict[tuple[TableKey, str], Metrics] = {}  # of good tables, each read once

    @abstractmethod
    def requests(self, run: Run, facts: MaskFacts) -> list[R]:
        """Return the requests that the stored masks allow."""

    @abstractmethod
    def merge(self, run: Run, request: R) -> None:
        """Write the tables of a request once all tasks are done, and delete the parts."""

    @abstractmethod
    def metrics(self, run: Run, request: R, scenario: str) -> Metrics | None:
        """Return the metrics of a scenario's table, None if it is missing, damaged or made from other masks."""

    def open_requests(self, run: Run, facts: MaskFacts, stored: Collection[TableKey]) -> list[R]:
        """Return the requests of which a table is not in ``stored``."""
        scenarios = run.config.evaluation.inferred_scenarios
        return [
            request
            for request in self.requests(run, facts)
            if any(request.key.of(scenario) not in stored for scenario in scenarios)
        ]

    def stored(self, run: Run, facts: MaskFacts) -> frozenset[TableKey]:
        """Return the tables that exist, are good, and were made from the current masks."""
        return frozenset(one.table for one in self.results(run, facts))

    def results(self, run: Run, facts: MaskFacts) -> Results:
        """Return the result of each good table."""
        return Results(
            table_result(scenario, request, metrics)
            for request in self.requests(run, facts)
            for scenario in run.config.evaluation.inferred_scenarios
            if (metrics := self._metrics(run, request, scenario)) is not None
        )

    def _metrics(self, run: Run, request: R, scenario: str) -> Metrics | None:
        key = request.key.of(scenario), request.masks
        if key not in self._known and (found := self.metrics(run, request, scenario)) is not None:
            self._known[key] = found
        return self._known.get(key)

    def prepare(self, context: RunContext) -> frozenset[TableKey]:
        """See ``Stage``."""
        return self.stored(context.run, context.facts)

    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """See ``Stage``."""
        del only
        run, facts = context.run, context.facts
        plan = join_plans(
            self._plan_request(run, request)
            for request in self.open_requests(run, facts, self.stored(run, facts))
        )
        return with_files(plan, facts.files) if self.reads_masks else plan

    def _plan_request(self, run: Run, request: R) -> Plan:
        parts = parts_of(request, run.layout, run.fingerprint)
        done = stored_tasks(parts) | set(parts.forgotten)
        return plan_jobs(request.k, self.tasks_per_job, done, kind=self.kind, request=request)

    def collect(self, context: RunContext) -> Results:
        """See ``Stage``."""
        run, facts = context.run, context.facts
        for request in self.open_requests(run, facts, self.stored(run, facts)):
            self.merge(run, request)
        return self.results(run, facts)


def stored_table(run: Run, request: Request, scenario: str) -> pa.Table | None:
    """Return the table of a scenario, None if it is missing, damaged or made from other masks."""
    try:
        return read_evaluation(table_path(run, request, scenario), run.fingerprint, request.masks)
    except DamagedFileError:
        return None


def table_path(run: Run, request: Request, scenario: str) -> Location:
    """Return the location of a scenario's evaluation table."""
    return run.layout.evaluation(request.key.of(scenario))


def merge_inferred(run: Run, request: InferenceRequest) -> None:
    """Write the table of each scenario once all tasks are inferred, and delete the parts."""
    parts = parts_of(request, run.layout, run.fingerprint)
    whole = whole_table(parts)
    if whole is None:
        return
    table = whole.sort_by(ORDER).combine_chunks()
    for scenario in run.config.evaluation.inferred_scenarios:
        position, counted_R = table.column_names.index("num_correct"), numbers(table["num_correct"])
        if scenario == "GNu":
            counted_R = np.where(numbers(table["rank"], missing=0) == 1, counted_R, 0)
        field = INFERENCE_SCHEMA.field("num_correct")
        scored = table.set_column(position, field, number_column(counted_R))
        write_evaluation(table_path(run, request, scenario), scored, _metadata(run, request, scenario))
    drop_parts(parts)


def request_results(run: Run, request: InferenceRequest) -> list[Result]:
    """Return one result per scenario with a table, and write the confusion table where it is missing."""
    scenarios = run.config.evaluation.inferred_scenarios
    measured = {scenario: inferred_metrics(run, request, scenario) for scenario in scenarios}
    found = {scenario: metrics for scenario, metrics in measured.items() if metrics is not None}
    if found:
        ensure_confusion(run, request, next(iter(found)))
    return [table_result(scenario, request, metrics) for scenario, metrics in found.items()]


def table_result(scenario: str, request: Request, metrics: Metrics) -> Result:
    """Return the result of one scenario's table."""
    return Result(
        scenario=scenario,
        method=request.label,
        num_batches=request.num_batches,
        k=request.k,
        metrics=metrics,
    )


def mean(by_task: dict[int, float]) -> float:
    """Return the mean over tasks."""
    return float(np.mean(list(by_task.values())))


def inferred_metrics(run: Run, request: InferenceRequest, scenario: str) -> Metrics | None:
    """Return the metrics of a scenario's table, None if it is missing, damaged or made from other masks.

    Means over tasks, fractions: ``accuracy``; ``task_inference_accuracy`` of inferences;
    ``image_task_inference_accuracy``, with inferences weighted by their number of images;
    ``top_5_task_inference_accuracy``; ``shortlist_agreement`` with exact one-shot, where checked. Counts
    over all tasks: ``num_inferences``, ``num_images``, and ``num_deciding_images``, distinct ones, where
    one image decides.
    """
    table = stored_table(run, request, scenario)
    if table is None:
        return None
    rank_R, one_R = numbers(table["rank"], missing=0), np.ones(len(table))
    metrics = {
        "accuracy": mean(task_accuracies(table)),
        "task_inference_accuracy": mean(task_shares(table, rank_R == 1, one_R)),
        "image_task_inference_accuracy": mean(
            task_shares(table, np.where(rank_R == 1, numbers(table["num_images"]), 0))
        ),
        "top_5_task_inference_accuracy": mean(task_shares(table, rank_R != 0, one_R)),
        "num_inferences": float(len(table)),
        "num_images": float(numbers(table["num_images"]).sum()),
    }
    one_decides = request.inference.images in (1, "each") and "deciding_image" in table.column_names
    if one_decides and table["deciding_image"].null_count == 0:  # older tables lack them
        metrics["num_deciding_images"] = float(len(np.unique(numbers(table["deciding_image"]))))
    exact_R = numbers(table["exact_task"], missing=-1)
    if (exact_R >= 0).any():
        agrees_R = exact_R == numbers(table["inferred_task"], missing=-2)
        metrics["shortlist_agreement"] = float(agrees_R[exact_R >= 0].mean())
    return metrics


def ensure_confusion(run: Run, request: InferenceRequest, scenario: str) -> None:
    """Write the confusion table of a request from a scenario's table (the inferred tasks are the same in all)."""
    path = run.layout.confusion(request.key)
    try:
        read_derived(path, request.masks)
    except DamagedFileError:
        table = stored_table(run, request, scenario)
        if table is not None:
            metadata = {"fingerprint": run.fingerprint, "masks": request.masks}
            write_table(path, _confusion(table), metadata)


def _confusion(table: pa.Table) -> pa.Table:
    """Return how often each task was inferred as which, and of how many images."""
    pairs = np.stack([numbers(table["task"]), numbers(table["inferred_task"])])
    found, row_R = np.unique(pairs, axis=1, return_inverse=True)
    num_images = np.bincount(row_R, numbers(table["num_images"])).astype(np.int64)
    columns = [found[0], found[1], np.bincount(row_R), num_images]
    return pa.table([number_column(column) for column in columns], schema=CONFUSION_SCHEMA)


def _metadata(run: Run, request: InferenceRequest, scenario: str) -> dict[str, str]:
    inference = request.inference
    return {
        "scenario": scenario,
        "algorithm": inference.algorithm,
        "objective": inference.objective,
        "images": str(inference.images),
        "batches": "all" if request.num_batches is None else str(request.num_batches),
        "k": str(request.k),
        "fingerprint": run.fingerprint,
        "masks": request.masks,
    }
