"""A run in MLflow and the runs of its tasks. All calls are idempotent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from orchestrator.tracking.client import (
    MAX_TAG_CHARS,
    PATH_TAG,
    SEARCH_TAG,
    connect,
    experiment_id,
    find_runs,
    find_sweep,
    log_metrics,
    log_new_params,
    milliseconds,
)
from orchestrator.tracking.content import shortened
from orchestrator.tracking.messages import FailedTask, TrackedEnd, TrackedRun, TrackedTask
from orchestrator.tracking.samples import Sample
from orchestrator.tracking.search_run import find_or_create_search
from orchestrator.tracking.views import save_views
from storage.locations import local_copy

MAX_DIGEST_CHARS = 36
FIRST_METRIC = "test_accuracy"  # logged with the others, so it shows which tasks are logged
ERROR_TAG = "supsup.error"


@dataclass
class TaskRuns:
    """The MLflow runs of a sweep's tasks. known: task -> (run id, status)."""

    client: Any
    run: TrackedRun
    experiment: str
    parent: str
    known: dict[int, tuple[str, str]]

    @classmethod
    def open(cls, client: Any, run: TrackedRun, experiment: str, parent: str) -> "TaskRuns":
        """Find the existing runs of tasks."""
        known: dict[int, tuple[str, str]] = {}
        if run.task_runs != "none":
            query = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`supsup.kind` = 'task'"
            for found in find_runs(client, experiment, query):
                known.setdefault(int(found.data.tags["supsup.task"]), (found.info.run_id, found.info.status))
        return cls(client, run, experiment, parent, known)

    def wants(self, task: int) -> bool:
        """Return whether a trained task still needs a run, or its run an end."""
        known = self.known.get(task)
        return self.run.task_runs == "all" if known is None else known[1] != "FINISHED"

    def log(self, task: TrackedTask) -> None:
        """Log a trained task as a finished run with metrics, tags and times."""
        is_new = task.task not in self.known
        run_id = self._run_id(task.task, task.started_s, task.tags)
        was, end = self.known[task.task][1], milliseconds(task.finished_s)
        metrics = [Metric(key, shortened(value), end, 0) for key, value in task.metrics.items()]
        tags = [] if is_new else [RunTag(key, value) for key, value in task.tags.items()]
        self.client.log_batch(run_id, metrics=metrics, params=self._params(task.task), tags=tags)
        if was == "FAILED":
            self.client.delete_tag(run_id, ERROR_TAG)
        self._end(task.task, "FINISHED", end)

    def log_failed(self, task: FailedTask) -> None:
        """Mark a task's run as failed, with the first line of the error."""
        if self.run.task_runs == "none" or self.known.get(task.task, ("", ""))[1] == "FINISHED":
            return
        run_id = self._run_id(task.task, task.failed_s, {})
        tags = [RunTag(ERROR_TAG, task.error[:MAX_TAG_CHARS])]
        self.client.log_batch(run_id, params=self._params(task.task), tags=tags)
        self._end(task.task, "FAILED", milliseconds(task.failed_s))

    def _end(self, task: int, status: str, end: int) -> None:
        run_id, _ = self.known[task]
        self.client.set_terminated(run_id, status=status, end_time=end)
        self.known[task] = (run_id, status)

    def _params(self, task: int) -> list[Param]:
        return [Param("task", str(task)), Param("seed", str(self.run.params.get("seed")))]

    def _run_id(self, task: int, start_s: float, more: Mapping[str, str]) -> str:
        """Return the id of a task's run, created with the tags ``more`` if it is missing."""
        if task not in self.known:
            tags = {
                "mlflow.parentRunId": self.parent,
                "supsup.kind": "task",
                "supsup.task": str(task),
                "supsup.sweep": self.run.experiment,
                "supsup.fingerprint": self.run.fingerprint,
                PATH_TAG: f"{self.run.name}/task-{task:07d}",
                **more,
            }
            start, name = milliseconds(start_s), f"task-{task:04d}"
            made = self.client.create_run(self.experiment, start_time=start, tags=tags, run_name=name)
            self.known[task] = (str(made.info.run_id), "RUNNING")
        return self.known[task][0]


@dataclass
class MlflowRun:
    """A run in MLflow, with what it already has.

    steps: tasks whose metrics are logged. samples: times of the logged system samples, in ms.
    """

    client: Any
    run: TrackedRun
    run_id: str
    steps: set[int]
    tasks: TaskRuns
    samples: set[int] = field(default_factory=set)

    @classmethod
    def open(cls, uri: str, run: TrackedRun) -> "MlflowRun":
        """Find or create the run, set it RUNNING, and log its params, tags and data set."""
        client = connect(uri)
        found = experiment_id(client, run.experiment, uri)
        save_views(client, found)
        parent = None if run.search is None else find_or_create_search(client, found, run.search)
        known = find_sweep(client, found, run.fingerprint)
        run_id = _create_run(client, found, run) if known is None else str(known.info.run_id)
        client.update_run(run_id, status="RUNNING")
        log_new_params(client, run_id, run.params)
        tags = run.tags | {PATH_TAG: run.name} | _search_tags(parent, run.search)
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if run.dataset_digest is not None:
            _log_input(client, run_id, run.dataset, run.dataset_digest, "training", source=run.dataset)
        steps = {m.step for m in client.get_metric_history(run_id, f"task/{FIRST_METRIC}")}
        history = client.get_metric_history(run_id, "system/cpu_utilization_percentage")
        tasks = TaskRuns.open(client, run, found, run_id)
        return cls(client, run, run_id, steps, tasks, {m.timestamp for m in history})

    def log_tasks(self, tasks: Sequence[TrackedTask]) -> None:
        """Log the metrics of new tasks; the step is the task."""
        new = [task for task in tasks if task.task not in self.steps]
        metrics = [
            Metric(f"task/{key}", shortened(value), milliseconds(task.finished_s), task.task)
            for task in new
            for key, value in task.metrics.items()
        ]
        log_metrics(self.client, self.run_id, metrics)
        self.steps.update(task.task for task in new)

    def log_samples(self, samples: Sequence[Sample]) -> None:
        """Log new samples for MLflow's page of system metrics; the step is in seconds, and has one sample."""
        metrics, steps = [], set()
        for sample in samples:
            when, step = milliseconds(sample["time_s"]), int(sample["time_s"] - self.run.created_s)
            if when not in self.samples and step not in steps:
                values = {key: value for key, value in sample.items() if key != "time_s"}
                metrics += [Metric(f"system/{key}", value, when, step) for key, value in values.items()]
            steps.add(step)
        log_metrics(self.client, self.run_id, metrics)
        self.samples.update(milliseconds(sample["time_s"]) for sample in samples)

    def log_end(self, end: TrackedEnd) -> None:
        """Log metrics by k, artifacts, the note and the digest of the masks."""
        created, known = milliseconds(self.run.created_s), self._known(end)
        short = [(key, k, shortened(value)) for key, k, value in end.metrics]
        new = [Metric(key, value, created, k) for key, k, value in short if (key, k, value) not in known]
        log_metrics(self.client, self.run_id, new)
        for path, folder in end.artifacts:
            with local_copy(path) as local:
                self.client.log_artifact(self.run_id, str(local), folder)
        tags = {"supsup.num_failed": str(len(end.failed)), "mlflow.note.content": end.note}
        if end.masks_digest is not None:
            tags["supsup.masks_digest"] = end.masks_digest
            name = f"masks of {end.num_masks} tasks"
            _log_input(self.client, self.run_id, name, end.masks_digest, "output", source=end.masks_folder)
        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _known(self, end: TrackedEnd) -> set[tuple[str, int, float]]:
        """Return the points that MLflow has, as they are logged now: once they had more digits."""
        keys = {key for key, _, _ in end.metrics} & set(self.client.get_run(self.run_id).data.metrics)
        history = (point for key in keys for point in self.client.get_metric_history(self.run_id, key))
        return {(point.key, point.step, shortened(point.value)) for point in history}

    def finish(self, end: TrackedEnd) -> None:
        """Set the final status and end time of the run, and save views of what is there now."""
        self.client.set_terminated(self.run_id, status=end.status, end_time=milliseconds(end.ended_s))
        save_views(self.client, self.tasks.experiment)


def _search_tags(parent: str | None, search: str | None) -> dict[str, str]:
    return {} if parent is None or search is None else {"mlflow.parentRunId": parent, SEARCH_TAG: search}


def _create_run(client: Any, experiment: str, run: TrackedRun) -> str:
    tags = {"supsup.kind": "sweep", "supsup.sweep": run.experiment, "supsup.fingerprint": run.fingerprint}
    created = client.create_run(
        experiment, start_time=milliseconds(run.created_s), tags=tags, run_name=run.name
    )
    return str(created.info.run_id)


def _log_input(client: Any, run_id: str, name: str, digest: str, context: str, *, source: str) -> None:
    """Log data by digest."""
    data = Dataset(
        name=name, digest=digest[:MAX_DIGEST_CHARS], source_type="local", source=f'{{"uri": "{source}"}}'
    )
    tags = [InputTag("mlflow.data.context", context)]
    client.log_inputs(run_id, datasets=[DatasetInput(data, tags)])
