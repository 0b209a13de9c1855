"""MLflow as a tracker: the pages of a run and of its tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from core.errors import ConfigError
from orchestrator.tracking.base import Place, Step
from orchestrator.tracking.messages import TrackedEnd, TrackedRun, TrackedTask


@dataclass
class MlflowPages:
    """One run in the store at ``uri``.

    mlflow: an ``orchestrator.tracking.runs.MlflowRun``, once open. waiting: tasks whose own runs are not sent yet.
    is_hurried: whether to leave those to the next start or to ``sync``.
    """

    uri: str
    mlflow: Any = None
    waiting: dict[int, TrackedTask] = field(default_factory=dict)
    is_hurried: bool = False

    def open(self, run: TrackedRun) -> None:
        """Find or create the run in MLflow."""
        from orchestrator.tracking.runs import MlflowRun  # takes seconds to import

        self.mlflow = MlflowRun.open(self.uri, run)

    def tasks(self, tasks: Sequence[TrackedTask]) -> None:
        """Log the metrics of tasks; their own runs wait for ``next_task``, or for the end."""
        self.mlflow.log_tasks(tasks)
        self.waiting |= {task.task: task for task in tasks if self.mlflow.tasks.wants(task.task)}

    def next_task(self) -> None:
        """Send the own run of one waiting task."""
        task = next(iter(self.waiting))
        self.mlflow.tasks.log(self.waiting[task])
        del self.waiting[task]

    def end(self, end: TrackedEnd) -> None:
        """Send all that is left."""
        for step in self.ending(end):
            step()

    def ending(self, end: TrackedEnd) -> Iterator[Step]:
        """Yield the steps that end the run: its results, then the runs of waiting and failed tasks."""
        yield partial(self.mlflow.log_end, end)
        while self.waiting and not self.is_hurried:
            yield self.next_task
        yield from (partial(self.mlflow.tasks.log_failed, task) for task in end.failed)
        yield partial(self.mlflow.finish, end)


def make(place: Place) -> MlflowPages:
    """Return MLflow's pages. Raises ConfigError if there is no store."""
    if place.uri is None:
        raise ConfigError("tracking.uri: found null, expected the store of MLflow")
    return MlflowPages(place.uri)
