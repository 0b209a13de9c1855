"""The MLflow runs of tasks, children of the sweep's: found by tag, so never two for one task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from orchestrator.tracking.client import MAX_TAG_CHARS, find_runs, milliseconds
from orchestrator.tracking.messages import FailedTask, TrackedRun, TrackedTask

ERROR_TAG = "supsup.error"
PATH_TAG = "supsup.path"  # what our view is sorted by: each sweep, then its tasks


@dataclass
class TaskRuns:
    """The runs of one sweep's tasks. known: task -> (run id, status)."""

    client: Any
    run: TrackedRun
    experiment: str
    parent: str
    known: dict[int, tuple[str, str]]

    @classmethod
    def open(cls, client: Any, run: TrackedRun, experiment: str, parent: str) -> "TaskRuns":
        """Find the runs that are there."""
        known: dict[int, tuple[str, str]] = {}
        if run.task_runs != "none":
            query = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`supsup.kind` = 'task'"
            for found in find_runs(client, experiment, query):
                known.setdefault(int(found.data.tags["supsup.task"]), (found.info.run_id, found.info.status))
        return cls(client, run, experiment, parent, known)

    def wants(self, task: int) -> bool:
        """Tell whether a trained task has yet to get its run, or the run its end."""
        known = self.known.get(task)
        return self.run.task_runs == "all" if known is None else known[1] != "FINISHED"

    def log(self, task: TrackedTask) -> None:
        """Give a trained task its finished run: metrics, tags and times, in one batch."""
        is_new = task.task not in self.known
        run_id = self._run_id(task.task, task.started_s, task.tags)
        was, end = self.known[task.task][1], milliseconds(task.finished_s)
        metrics = [Metric(key, value, end, 0) for key, value in task.metrics.items()]
        tags = [] if is_new else [RunTag(key, value) for key, value in task.tags.items()]
        self.client.log_batch(run_id, metrics=metrics, params=self._params(task.task), tags=tags)
        if was == "FAILED":
            self.client.delete_tag(run_id, ERROR_TAG)
        self._end(task.task, "FINISHED", end)

    def log_failed(self, task: FailedTask) -> None:
        """Mark a task's run as failed, with the first line of why."""
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
        """Return a task's run, made where there is none; ``more`` tags cost least at once."""
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
