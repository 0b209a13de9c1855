"""Train a baseline, one task after another, and evaluate it where requested."""

import torch

from core.baselines.batch_ensemble import BatchEnsemble, infer_rank_one
from core.baselines.make import make_method
from core.baselines.method import Method, Values, correct_images, learn_task
from core.data.test_rows import InferredRows, batch_counts
from orchestrator.execution.jobs import InferenceRequest, Job, JobResult, TaskReport, parts_of
from orchestrator.worker.base import WorkerContext
from orchestrator.worker.checkpointer import JobCheckpointer
from storage.checkpoints import read_baseline, write_baseline
from storage.layout import TableKey
from storage.parts import write_part
from storage.tables import given_metadata, given_table, write_evaluation


class Baseline:
    """A ``Handler``: trains and evaluates a baseline on one device."""

    def __init__(self, context: WorkerContext) -> None:
        baseline = context.setup.spec.baseline
        assert baseline is not None, "a run of a baseline"
        self._context, self._layout, self._fingerprint = context, context.setup.layout, context.fingerprint
        self._problem = context.problem
        self._method: Method = make_method(baseline.kind, self._problem)
        self._num_done = 0
        self._values: Values = {}

    def run(self, job: Job) -> JobResult:
        """Train the task of ``job``; with a request, test all tasks so far and write the tables.

        The tables are written before the state that marks the task as done, so a crash loses neither.
        """
        self._catch_up(job.first)
        checkpointer = JobCheckpointer(self._context, job)
        learn_task(self._problem, self._method, self._values, job.first, checkpointer)
        correct = correct_images(self._problem, self._method, self._values, job.first)
        self._num_done = job.first + 1
        if isinstance(job.request, InferenceRequest):
            self._measure(job.request)
        arrays = {name: value.detach().cpu().numpy() for name, value in self._values.items()}
        write_baseline(self._layout, self._num_done, arrays, self._fingerprint)
        checkpointer.end()
        report = TaskReport(task=job.first, test_accuracy=float(correct.mean()))
        return JobResult(reports=(report,), note=checkpointer.note)

    def _catch_up(self, task: int) -> None:
        """Restore the state before ``task`` from memory or disk; train any missing tasks."""
        if self._num_done != task:
            self._num_done, stored = read_baseline(self._layout, self._fingerprint)
            self._values = {
                name: torch.from_numpy(value).to(self._problem.device) for name, value in stored.items()
            }
        for missing in range(self._num_done, task):
            learn_task(self._problem, self._method, self._values, missing)

    def _measure(self, request: InferenceRequest) -> None:
        """Test the first k tasks and write GG's table; for BatchE, write the inferred tasks too."""
        k, most = request.k, request.num_batches
        correct = [correct_images(self._problem, self._method, self._values, task) for task in range(k)]
        counts = {task: batch_counts(one)[:most].tolist() for task, one in enumerate(correct)}
        table = given_table(range(k), counts, {task: len(one) for task, one in enumerate(correct)})
        metadata = given_metadata(k, self._fingerprint, "all" if most is None else most, request.masks)
        write_evaluation(self._layout.evaluation(TableKey("GG", k, most)), table, metadata)
        if isinstance(self._method, BatchEnsemble):
            parts = parts_of(request, self._layout, self._fingerprint)
            write_part(parts, self._inferred(self._method, request))

    def _inferred(self, method: BatchEnsemble, request: InferenceRequest) -> list[tuple[int, InferredRows]]:
        return [
            (
                task,
                infer_rank_one(
                    self._problem,
                    method,
                    self._values,
                    request.inference,
                    task=task,
                    num_tasks=request.k,
                    num_batches=request.num_batches,
                ),
            )
            for task in range(request.k)
        ]
