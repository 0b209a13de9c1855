"""Evaluation tables of inferred tasks and recovered masks: merge parts, compute metrics."""

from abc import abstractmethod
from collections.abc import Collection
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import DamagedFileError
from orchestrator.execution.jobs import InferenceRequest, RecoveryRequest, Request, parts_of
from orchestrator.execution.plan import Plan, join_plans, plan_jobs, with_files
from orchestrator.runs.results import Metrics, Result, Results
from orchestrator.runs.run import Run
from orchestrator.stages.base import RunContext, Stage
from storage.layout import TableKey
from storage.locations import Location
from storage.mask_facts import MaskFacts
from storage.parts import drop_parts, stored_tasks, whole_table
from storage.tables import (
    INFERENCE_SCHEMA,
    read_evaluation,
    task_accuracies,
    task_shares,
    write_evaluation,
    write_table,
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

    @abstractmethod
    def requests(self, run: Run, facts: MaskFacts) -> list[R]:
        """Return the requests that the stored masks allow."""

    @abstractmethod
    def merge(self, run: Run, request: R) -> None:
        """Write the tables of a request once all tasks are done, and delete the parts."""

    @abstractmethod
    def results(self, run: Run, request: R) -> list[Result]:
        """Return one result per scenario with a table."""

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
        return frozenset(
            request.key.of(scenario)
            for request in self.requests(run, facts)
            for scenario in run.config.evaluation.inferred_scenarios
            if stored_table(run, request, scenario) is not None
        )

    def prepare(self, context: RunContext) -> frozenset[TableKey]:
        """See ``Stage``."""
        return self.stored(context.run, context.facts)

    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """See ``Stage``."""
        del only
        run, facts = context.run, context.facts
        plan = join_plans(
            plan_jobs(
                request.k,
                self.tasks_per_job,
                stored_tasks(parts_of(request, run.layout, run.fingerprint)),
                kind=self.kind,
                request=request,
            )
            for request in self.open_requests(run, facts, self.stored(run, facts))
        )
        return with_files(plan, facts.files) if self.reads_masks else plan

    def collect(self, context: RunContext) -> Results:
        """See ``Stage``."""
        run, facts = context.run, context.facts
        for request in self.open_requests(run, facts, self.stored(run, facts)):
            self.merge(run, request)
        requests = self.requests(run, facts)
        return Results(result for request in requests for result in self.results(run, request))


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
        is_counted = pc.or_(_is_right(table), scenario != "GNu")
        counted = _where(is_counted, table["num_correct"])
        position = table.column_names.index("num_correct")
        scored = table.set_column(position, INFERENCE_SCHEMA.field("num_correct"), counted)
        write_evaluation(table_path(run, request, scenario), scored, _metadata(run, request, scenario))
    drop_parts(parts)


def request_results(run: Run, request: InferenceRequest) -> list[Result]:
    """Return one result per scenario with a table, and write the confusion table.

    Means over tasks, fractions: ``accuracy``; ``task_inference_accuracy`` of inferences;
    ``image_task_inference_accuracy``, with inferences weighted by their number of images;
    ``top_5_task_inference_accuracy``; ``shortlist_agreement`` with exact one-shot, where checked.
    """
    stored = {name: stored_table(run, request, name) for name in run.config.evaluation.inferred_scenarios}
    tables = {scenario: table for scenario, table in stored.items() if table is not None}
    if tables:  # the inferred tasks are the same in every scenario
        _write_confusion(run, request, next(iter(tables.values())))
    return [table_result(scenario, request, _metrics(table)) for scenario, table in tables.items()]


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


def _metrics(table: pa.Table) -> Metrics:
    is_right = _is_right(table)
    metrics = {
        "accuracy": mean(task_accuracies(table)),
        "task_inference_accuracy": mean(_task_means(table, is_right)),
        "image_task_inference_accuracy": mean(task_shares(table, _where(is_right, table["num_images"]))),
        "top_5_task_inference_accuracy": mean(_task_means(table, pc.is_valid(table["rank"]))),
    }
    checked = table.filter(pc.is_valid(table["exact_task"]))
    if len(checked):
        agreement = pc.equal(checked["exact_task"], checked["inferred_task"])
        metrics["shortlist_agreement"] = float(pc.mean(agreement).as_py())
    return metrics


def _task_means(table: pa.Table, condition: pa.ChunkedArray) -> dict[int, float]:
    """Return the fraction of inferences for which ``condition`` holds, by task."""
    marked = pa.table({"task": table["task"], "holds": pc.cast(condition, pa.float64())})
    means = marked.group_by("task").aggregate([("holds", "mean")])
    return dict(zip(means["task"].to_pylist(), means["holds_mean"].to_pylist(), strict=True))


def _write_confusion(run: Run, request: InferenceRequest, table: pa.Table) -> None:
    counted = table.group_by(["task", "inferred_task"]).aggregate([("batch", "count"), ("num_images", "sum")])
    names = ["task", "inferred_task", "num_inferences", "num_images"]
    confusion = counted.rename_columns(names).sort_by([("task", "ascending"), ("inferred_task", "ascending")])
    metadata = {"fingerprint": run.fingerprint, "masks": request.masks}
    write_table(run.layout.confusion(request.key), confusion, metadata)


def _is_right(table: pa.Table) -> pa.ChunkedArray:
    """Return whether each inference found the task or, in NNs, a mask belonging to it."""
    return pc.fill_null(pc.equal(table["rank"], 1), fill_value=False)


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


def _where(condition: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return ``values`` where ``condition`` holds, else 0."""
    return pc.if_else(condition, values, pa.scalar(0, pa.int32()))
