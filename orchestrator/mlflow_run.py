"""One run in MLflow, and the runs of its tasks: every call can be repeated without doubling."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from storage.places import local_copy

# Before mlflow is imported: nothing leaves the machine, and a server that is down is known soon.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from core.errors import SupSupError
from orchestrator.jobs import TaskReport
from orchestrator.tracked import TrackedEnd, TrackedRun, sqlite_path

MAX_BATCH_METRICS = 1000
MAX_BATCH_PARAMS = 100
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 5000
MAX_PAGE_RUNS = 1000
TASK_METRICS = ("test_accuracy", "train_loss", "train_seconds", "density")


@dataclass
class MlflowRun:
    """A run found or created, and what MLflow already has of its tasks.

    steps: tasks whose metrics are on the run. task_runs: task -> (run id, status) of its own run.
    """

    client: Any
    run: TrackedRun
    experiment_id: str
    run_id: str
    steps: set[int]
    task_runs: dict[int, tuple[str, str]]

    @classmethod
    def open(cls, uri: str, run: TrackedRun) -> "MlflowRun":
        """Find or create experiment and run, set it RUNNING, log its params."""
        client = connect(uri)
        found = _experiment_id(client, run, is_local=sqlite_path(uri) is not None)
        run_id = _find_run(client, found, run) or _create_run(client, found, run)
        client.update_run(run_id, status="RUNNING")
        _log_params(client, run_id, run)
        steps = {m.step for m in client.get_metric_history(run_id, "task/test_accuracy")}
        task_runs = _task_runs(client, found, run_id) if run.task_runs != "none" else {}
        return cls(client, run, found, run_id, steps, task_runs)

    def log_tasks(self, reports: Sequence[TaskReport]) -> None:
        """Log the metrics of tasks that the run does not have, step = task index."""
        new = [report for report in reports if report.task not in self.steps]
        metrics = [
            Metric(f"task/{key}", getattr(report, key), _milliseconds(report.finished_s), report.task)
            for report in new
            for key in TASK_METRICS
        ]
        self._log_metrics(metrics)
        self.steps.update(report.task for report in new)

    def log_task_run(self, report: TaskReport) -> None:
        """Give a trained task its own finished run, where the sweep wants one and it has none."""
        if self.run.task_runs != "all" or self.task_runs.get(report.task, ("", ""))[1] == "FINISHED":
            return
        end = _milliseconds(report.finished_s)
        start = _milliseconds(report.finished_s - report.train_seconds)
        run_id = self._task_run_id(report.task, start)
        metrics = [Metric(key, getattr(report, key), end, 0) for key in TASK_METRICS]
        self.client.log_batch(run_id, metrics=metrics)
        self.client.set_terminated(run_id, status="FINISHED", end_time=end)
        self.task_runs[report.task] = (run_id, "FINISHED")

    def log_end(self, end: TrackedEnd) -> None:
        """Log metrics by k, artifacts and failures, and end the run."""
        created = _milliseconds(self.run.created_s)
        self._log_metrics([Metric(key, value, created, k) for key, k, value in end.metrics])
        for path, folder in end.artifacts:
            with local_copy(path) as local:
                self.client.log_artifact(self.run_id, str(local), folder)
        for task, error in end.failed if self.run.task_runs != "none" else ():
            self._log_failed_task(task, error)
        self.client.set_tag(self.run_id, "supsup.num_failed", str(len(end.failed)))
        self.client.set_terminated(self.run_id, status=end.status)

    def _log_failed_task(self, task: int, error: str) -> None:
        run_id = self._task_run_id(task, _milliseconds(time.time()))
        self.client.set_tag(run_id, "supsup.error", error[:MAX_TAG_CHARS])
        self.client.set_terminated(run_id, status="FAILED")
        self.task_runs[task] = (run_id, "FAILED")

    def _task_run_id(self, task: int, start_time: int) -> str:
        if task in self.task_runs:
            return self.task_runs[task][0]
        tags = {"mlflow.parentRunId": self.run_id, "supsup.kind": "task", "supsup.task": str(task)}
        created = self.client.create_run(
            self.experiment_id, start_time=start_time, tags=tags, run_name=f"task-{task:04d}"
        )
        run_id = str(created.info.run_id)
        self.task_runs[task] = (run_id, "RUNNING")
        params = [Param("task", str(task)), Param("seed", str(self.run.params.get("seed")))]
        self.client.log_batch(run_id, params=params)
        return run_id

    def _log_metrics(self, metrics: Sequence[Metric]) -> None:
        for batch in _batches(metrics, MAX_BATCH_METRICS):
            self.client.log_batch(self.run_id, metrics=batch)


def connect(uri: str) -> Any:
    """Return a client of the store at ``uri`` (absolute), made first where it is a new file."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    database = sqlite_path(uri)
    if database is None:
        return MlflowClient(tracking_uri=uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that create the tables of a fresh database at once both fail.
    with FileLock(f"{database}.lock"):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def experiment_id(uri: str, experiment: str) -> str | None:
    """Return the id of an experiment, None when there is no such."""
    found = connect(uri).get_experiment_by_name(experiment)
    return None if found is None else str(found.experiment_id)


def _experiment_id(client: Any, run: TrackedRun, *, is_local: bool) -> str:
    experiment = client.get_experiment_by_name(run.experiment)
    if experiment is None:
        place = run.artifact_root.absolute().as_uri() if is_local else None
        return str(client.create_experiment(run.experiment, artifact_location=place))
    if experiment.lifecycle_stage == "deleted":
        raise SupSupError(f"the experiment {run.experiment!r} was deleted in MLflow; restore it there")
    return str(experiment.experiment_id)


def _find_run(client: Any, experiment: str, run: TrackedRun) -> str | None:
    """MLflow's names are not unique, so a run is known by its tags."""
    query = f"tags.`supsup.fingerprint` = '{run.fingerprint}' and tags.`supsup.kind` = 'sweep'"
    found = client.search_runs([experiment], query, max_results=1)
    return str(found[0].info.run_id) if found else None


def _create_run(client: Any, experiment: str, run: TrackedRun) -> str:
    tags = {"supsup.kind": "sweep", "supsup.sweep": run.experiment, "supsup.fingerprint": run.fingerprint}
    created = client.create_run(
        experiment, start_time=_milliseconds(run.created_s), tags=tags, run_name=run.name
    )
    return str(created.info.run_id)


def _log_params(client: Any, run_id: str, run: TrackedRun) -> None:
    """Log the config once: a param cannot change, and num_tasks does when a run grows."""
    known = client.get_run(run_id).data.params
    params = [
        Param(key, str(value)[:MAX_PARAM_CHARS]) for key, value in run.params.items() if key not in known
    ]
    for batch in _batches(params, MAX_BATCH_PARAMS):
        client.log_batch(run_id, params=batch)
    num_tasks = str(run.params.get("benchmark.num_tasks"))
    client.log_batch(run_id, tags=[RunTag("supsup.num_tasks", num_tasks)])


def _task_runs(client: Any, experiment: str, parent: str) -> dict[int, tuple[str, str]]:
    query = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`supsup.kind` = 'task'"
    found, token = {}, None
    while True:
        page = client.search_runs([experiment], query, max_results=MAX_PAGE_RUNS, page_token=token)
        found.update({int(r.data.tags["supsup.task"]): (r.info.run_id, r.info.status) for r in page})
        token = page.token
        if not token:
            return found


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _milliseconds(unix_s: float) -> int:
    return int(unix_s * 1000)
