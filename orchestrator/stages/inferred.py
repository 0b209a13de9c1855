"""Evaluation with the task inferred: scenarios GNs, GNu, and NNs at the end of a stream."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from core.specs.inference import InferenceSpec
from orchestrator.execution.jobs import InferenceRequest
from orchestrator.execution.plan import Plan, join_plans, plan_jobs
from orchestrator.runs.results import Metrics, Results, finished_log, test_batches
from orchestrator.runs.run import Run
from orchestrator.stages.base import RunContext
from orchestrator.stages.tables import is_answered, merge_inferred, request_results
from storage.bank_file import bank_path, make_bank, num_leading
from storage.decisions import score_rows
from storage.parts import stored_tasks

BLOCK_TASKS = 8  # tasks of one job: seconds at 2500 tasks, so a crash loses little


@dataclass(frozen=True)
class Inferred:
    """Searches the stored masks for the task of test images. method: its label, for the display."""

    method: str
    kind: ClassVar[str] = "infer"
    in_order: ClassVar[bool] = False

    @property
    def verb(self) -> str:
        """What the display shows."""
        return f"inferring tasks ({self.method})"

    def prepare(self, context: RunContext) -> None:
        """Make the bank of masks that workers search, where a table is missing."""
        requests = _open_requests(context.run)
        if requests:
            make_bank(context.run.store, requests[0].bank)

    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """See ``Stage``."""
        del only
        run = context.run
        return join_plans(
            plan_jobs(
                request.k,
                BLOCK_TASKS,
                stored_tasks(run.layout, run.fingerprint, request.key),
                kind=self.kind,
                request=request,
            )
            for request in _open_requests(run)
        )

    def collect(self, context: RunContext) -> Results:
        """Merge the parts of each table that is whole; return the metrics of all tables asked for."""
        run = context.run
        for request in _open_requests(run):
            merge_inferred(run, request)
        return Results(
            replace(result, metrics=result.metrics | _stream_metrics(run, request))
            for request in inference_requests(run)
            for result in request_results(run, request)
        )


def inference_requests(run: Run) -> list[InferenceRequest]:
    """Return one request for each k whose tasks are trained; one at the end of a stream."""
    evaluation = run.config.evaluation
    assert evaluation.inference is not None, "masks on weights are searched by inference"
    if not run.config.training.is_given:
        return _stream_requests(run, evaluation.inference)
    most = num_leading(run.store)
    ks = [k for k in evaluation.ks(run.config.benchmark.num_tasks) if k <= most]
    if not ks:
        return []
    bank = bank_path(run.store)
    return [
        InferenceRequest(inference=evaluation.inference, k=k, num_batches=test_batches(run), bank=bank)
        for k in ks
    ]


def _stream_requests(run: Run, inference: InferenceSpec) -> list[InferenceRequest]:
    """Return the request at the end of a stream without task ids; none before that."""
    rows = finished_log(run)
    homes = score_rows(rows).homes if rows else ()
    if not homes or num_leading(run.store) < len(homes):
        return []
    return [
        InferenceRequest(
            inference=inference,
            k=run.config.benchmark.num_tasks,
            num_batches=test_batches(run),
            bank=bank_path(run.store),
            homes=homes,
        )
    ]


def _open_requests(run: Run) -> list[InferenceRequest]:
    return [request for request in inference_requests(run) if not is_answered(run, request)]


def _stream_metrics(run: Run, request: InferenceRequest) -> Metrics:
    """Return the counts of ``AllocationScore`` for a stream without task ids, else nothing."""
    rows = None if request.homes is None else finished_log(run)
    if rows is None:
        return {}
    return {key: float(value) for key, value in asdict(score_rows(rows)).items() if key.startswith("num_")}
