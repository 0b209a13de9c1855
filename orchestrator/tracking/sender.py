"""Senders: each sends one run from its folder to one tracker, in steps that can be repeated."""

import os
from collections.abc import Iterable, Iterator

from core.printing import redacted
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.run import Run
from orchestrator.tracking.base import Step, Tracker
from orchestrator.tracking.content import tracked_end, tracked_run, tracked_tasks
from orchestrator.tracking.messages import TrackedEnd, TrackedTask
from orchestrator.tracking.mlflow_pages import MlflowPages
from orchestrator.tracking.samples import SystemSampler, read_samples
from storage.run_file import RunRecord


class Sender:
    """Sends one run to any tracker. After an error it begins anew, with ``open`` and all tasks."""

    def __init__(self, run: Run, record: RunRecord, name: str, tracker: Tracker) -> None:
        self.run = run
        self.record = record
        self.name = name  # of the tracker, in messages
        self.tracker = tracker
        self._sent: set[int] | None = None  # the tasks since ``open``; None: to be opened

    @property
    def where(self) -> str:
        """The tracker, and where it is, in messages."""
        return f"the tracker {self.name}"

    @property
    def patience_s(self) -> float:
        """How long a call of the tracker may take at the end of a session; 0 if it does not say."""
        return float(getattr(self.tracker, "patience_s", 0.0))

    def begin(self) -> None:
        """Start what goes along with the run, in the thread that sends."""

    def finish(self) -> None:
        """End what goes along with the run."""

    def hurry(self) -> None:
        """Leave what takes long to the next start or to ``sync``."""

    @property
    def num_waiting(self) -> int:
        """Number of tasks that ``next_task`` has left to send."""
        return 0

    def next_task(self) -> None:
        """Send one of the tasks that wait."""

    def samples(self) -> None:
        """Send the samples of the machine's load."""

    def open(self) -> None:
        """Begin to send the run."""
        self._sent = None
        self.tracker.open(tracked_run(self.run, self.record))
        self._sent = set()

    def add(self, files: Iterable[str] | None) -> None:
        """Send the tasks in mask files with these names (None: all) that were not sent since ``open``."""
        if self._sent is None:
            self.open()
            files = None
        sent, self._sent = self._sent or set(), None
        new = [task for task in self._stored(files) if task.task not in sent]
        if new:
            self.tracker.tasks(new)
        self._sent = sent | {task.task for task in new}

    def end(self) -> Iterator[Step]:
        """Yield the steps that end the run."""
        read: list[TrackedEnd] = []
        yield lambda: read.append(tracked_end(self.run, self.record))
        yield lambda: self._end(read[0])

    def _end(self, end: TrackedEnd) -> None:
        if self._sent is None:
            self.add(None)
        sent, self._sent = self._sent, None
        self.tracker.end(end)
        self._sent = sent

    def _stored(self, files: Iterable[str] | None) -> list[TrackedTask]:
        return tracked_tasks(self.run, None if files is None else set(files))

    def trouble(self, reason: str) -> str:
        """Return what to tell the user of a call that failed and will be repeated."""
        again = supsup_command("sync", self.run.layout.root, config=self.run.config)
        return (
            f"{self.where} failed; training goes on, and what it misses is sent later, "
            f"or by `{again}` ({redacted(reason)})"
        )


class MlflowSender(Sender):
    """Sends one run to the store at ``uri``: its own metrics at once, the runs of its tasks one at a time."""

    tracker: MlflowPages

    def __init__(self, run: Run, record: RunRecord, uri: str) -> None:
        super().__init__(run, record, "MLflow", MlflowPages(uri))
        self._sampler = SystemSampler(run.layout)

    @property
    def where(self) -> str:
        """The tracker, and where it is, in messages."""
        return f"MLflow at {redacted(self.tracker.uri)}"

    def begin(self) -> None:
        """Start to sample the machine's load."""
        import orchestrator.tracking.runs  # noqa: F401  # two threads cannot import mlflow at once

        self._sampler.start()

    def finish(self) -> None:
        """Take the last sample."""
        self._sampler.close()

    def hurry(self) -> None:
        """Leave the runs of tasks to the next start or to ``sync``."""
        self.tracker.is_hurried = True

    @property
    def num_waiting(self) -> int:
        """Number of tasks whose own runs are not sent yet."""
        return len(self.tracker.waiting)

    def next_task(self) -> None:
        """Send the own run of one waiting task."""
        self.tracker.next_task()

    def samples(self) -> None:
        """Send the samples of the machine's load."""
        self.tracker.mlflow.log_samples(read_samples(self.run.layout))

    def add(self, files: Iterable[str] | None) -> None:
        """Log the metrics of the tasks in mask files (None: all), which MLflow tells apart itself."""
        self.tracker.tasks(self._stored(files))

    def end(self) -> Iterator[Step]:
        """Yield the steps that end the run: its results, then the runs of waiting and failed tasks."""
        read: list[TrackedEnd] = []
        yield lambda: read.append(tracked_end(self.run, self.record))
        yield self.samples
        yield from self.tracker.ending(read[0])

    def trouble(self, reason: str) -> str:
        """Return what to tell the user of a call that failed and will be repeated."""
        limit_s = os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        return (
            f"{self.where} does not answer; training goes on "
            f"(after {limit_s} s for each try: {redacted(reason)})"
        )
