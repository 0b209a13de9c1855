"""One run in MLflow, its tasks' metrics and its end: every call can be repeated without doubling."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag

from orchestrator.tracking.client import (
    connect,
    experiment_id,
    find_sweep,
    log_metrics,
    log_new_params,
    milliseconds,
)
from orchestrator.tracking.messages import TrackedEnd, TrackedRun, TrackedTask
from orchestrator.tracking.mlflow_tasks import PATH_TAG, TaskRuns
from orchestrator.tracking.samples import Sample
from orchestrator.tracking.search_run import find_or_create_search
from orchestrator.tracking.views import save_views
from storage.locations import local_copy

MAX_DIGEST_CHARS = 36
FIRST_METRIC = "test_accuracy"  # a task that has it on the run has all


@dataclass
class MlflowRun:
    """A run found or created, and what MLflow already has of its tasks.

    steps: tasks whose metrics are on the run. samples: times of the system's samples that are.
    """

    client: Any
    run: TrackedRun
    run_id: str
    steps: set[int]
    tasks: TaskRuns
    samples: set[int] = field(default_factory=set)

    @classmethod
    def open(cls, uri: str, run: TrackedRun) -> "MlflowRun":
        """Find or create experiment and run, set it RUNNING, log its params, tags and data set."""
        client = connect(uri)
        found = experiment_id(client, run.experiment, uri)
        save_views(client, found)
        parent = None if run.search is None else find_or_create_search(client, found, run.search)
        known = find_sweep(client, found, run.fingerprint)
        run_id = _create_run(client, found, run) if known is None else str(known.info.run_id)
        client.update_run(run_id, status="RUNNING")
        log_new_params(client, run_id, run.params)
        tags = run.tags | {PATH_TAG: run.name} | ({} if parent is None else {"mlflow.parentRunId": parent})
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if run.dataset_digest is not None:
            _log_input(client, run_id, run.dataset, run.dataset_digest, "training", source=run.dataset)
        steps = {m.step for m in client.get_metric_history(run_id, f"task/{FIRST_METRIC}")}
        history = client.get_metric_history(run_id, "system/cpu_utilization_percentage")
        tasks = TaskRuns.open(client, run, found, run_id)
        return cls(client, run, run_id, steps, tasks, {m.timestamp for m in history})

    def log_tasks(self, tasks: Sequence[TrackedTask]) -> None:
        """Log the metrics of tasks that the run does not have, step = task index."""
        new = [task for task in tasks if task.task not in self.steps]
        metrics = [
            Metric(f"task/{key}", value, milliseconds(task.finished_s), task.task)
            for task in new
            for key, value in task.metrics.items()
        ]
        log_metrics(self.client, self.run_id, metrics)
        self.steps.update(task.task for task in new)

    def log_samples(self, samples: Sequence[Sample]) -> None:
        """Log how busy the machine was, as MLflow's page of system metrics expects it; step = seconds."""
        metrics = []
        for sample in samples:
            when = milliseconds(sample["time_s"])
            if when not in self.samples:
                step = int(sample["time_s"] - self.run.created_s)
                values = {key: value for key, value in sample.items() if key != "time_s"}
                metrics += [Metric(f"system/{key}", value, when, step) for key, value in values.items()]
        log_metrics(self.client, self.run_id, metrics)
        self.samples.update(milliseconds(sample["time_s"]) for sample in samples)

    def log_end(self, end: TrackedEnd) -> None:
        """Log metrics by k, artifacts, the note, and the masks by digest; the run goes on."""
        created = milliseconds(self.run.created_s)
        log_metrics(
            self.client, self.run_id, [Metric(key, value, created, k) for key, k, value in end.metrics]
        )
        for path, folder in end.artifacts:
            with local_copy(path) as local:
                self.client.log_artifact(self.run_id, str(local), folder)
        tags = {"supsup.num_failed": str(len(end.failed)), "mlflow.note.content": end.note}
        if end.masks_digest is not None:
            tags["supsup.masks_digest"] = end.masks_digest
            name = f"masks of {end.num_masks} tasks"
            _log_input(self.client, self.run_id, name, end.masks_digest, "output", source=end.masks_folder)
        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def finish(self, end: TrackedEnd) -> None:
        """Set how and when the run ended: the last thing that is sent."""
        self.client.set_terminated(self.run_id, status=end.status, end_time=milliseconds(end.ended_s))


def _create_run(client: Any, experiment: str, run: TrackedRun) -> str:
    tags = {"supsup.kind": "sweep", "supsup.sweep": run.experiment, "supsup.fingerprint": run.fingerprint}
    created = client.create_run(
        experiment, start_time=milliseconds(run.created_s), tags=tags, run_name=run.name
    )
    return str(created.info.run_id)


def _log_input(client: Any, run_id: str, name: str, digest: str, context: str, *, source: str) -> None:
    """Log data by digest; the same again changes nothing."""
    data = Dataset(
        name=name, digest=digest[:MAX_DIGEST_CHARS], source_type="local", source=f'{{"uri": "{source}"}}'
    )
    tags = [InputTag("mlflow.data.context", context)]
    client.log_inputs(run_id, datasets=[DatasetInput(data, tags)])
