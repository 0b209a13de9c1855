"""MLflow: a view of the run folder, written by one background thread.

The run folder is the truth. Every operation here can be repeated without doubling
anything, so a store that is down is tried again while the run lasts, and what it missed
is sent by the next ``supsup run`` of the sweep: the spool is the run folder itself.
Training never waits for MLflow.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from orchestrator.jobs import TaskReport
from orchestrator.tracked import TrackedEnd, TrackedRun, absolute_uri

RETRY_S = 5.0
FLUSH_S = 15.0  # at the end, wait this long after the last thing that worked


class Tracker(Protocol):
    """Takes what happens and returns at once; ``close`` waits, but not long."""

    def open(self, run: TrackedRun, known: Sequence[TaskReport]) -> None:
        """Begin, or go on with, the run; ``known`` tasks are sent where they are missing."""
        ...

    def tasks(self, reports: Sequence[TaskReport]) -> None:
        """Send newly trained tasks."""
        ...

    def close(self, end: TrackedEnd, patience_s: float = FLUSH_S) -> bool:
        """End the run; tell whether everything was taken."""
        ...


class NullTracker:
    """``tracking.uri: null``."""

    def open(self, run: TrackedRun, known: Sequence[TaskReport]) -> None:
        """Do nothing."""

    def tasks(self, reports: Sequence[TaskReport]) -> None:
        """Do nothing."""

    def close(self, end: TrackedEnd, patience_s: float = FLUSH_S) -> bool:
        """Have nothing left to send."""
        del end, patience_s
        return True


class MlflowTracker:
    """Queues operations for one thread, which repeats each until it works or time is up."""

    def __init__(self, uri: str, warn: Callable[[str], None]) -> None:
        self._uri = uri
        self._warn = warn
        self._mlflow: Any = None  # orchestrator.mlflow_run.MlflowRun, made in the thread
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._last_success_s = time.monotonic()
        self._has_warned = False
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)

    def open(self, run: TrackedRun, known: Sequence[TaskReport]) -> None:
        """Queue finding or creating the run and sending ``known`` where missing."""
        self._queue.put(lambda: self._open(run))
        self.tasks(known)
        self._thread.start()

    def tasks(self, reports: Sequence[TaskReport]) -> None:
        """Queue per-task metrics, step = task index, and the tasks' own runs."""
        self._queue.put(lambda: self._mlflow.log_tasks(reports))
        for report in reports:
            self._queue.put(partial(self._log_task_run, report))

    def close(self, end: TrackedEnd, patience_s: float = FLUSH_S) -> bool:
        """Queue the end; wait while MLflow takes things, at most ``patience_s`` longer than it does."""
        self._queue.put(lambda: self._mlflow.log_end(end))
        self._queue.put(None)
        self._last_success_s = time.monotonic()
        self._closing.set()
        while self._thread.is_alive() and time.monotonic() - self._last_success_s < patience_s:
            self._thread.join(timeout=0.1)
        self._abandoned.set()
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (operation := self._queue.get()) is not None:
            while not self._succeeds(operation):
                self._closing.wait(RETRY_S)
                if self._abandoned.wait(1.0 if self._closing.is_set() else 0.0):
                    return

    def _succeeds(self, operation: Callable[[], None]) -> bool:
        try:
            operation()
        # A tracker's trouble is never the run's: any failure is told once and tried again.
        except Exception as error:
            if not self._has_warned:
                reason = " ".join(str(error).split())[:160]
                self._warn(f"MLflow at {self._uri} does not answer; training goes on ({reason})")
            self._has_warned = True
            return False
        self._last_success_s = time.monotonic()
        return True

    def _open(self, run: TrackedRun) -> None:
        from orchestrator.mlflow_run import MlflowRun  # seconds to import, so in the thread

        self._mlflow = MlflowRun.open(self._uri, run)

    def _log_task_run(self, report: TaskReport) -> None:
        self._mlflow.log_task_run(report)


def make_tracker(uri: str | None, warn: Callable[[str], None]) -> Tracker:
    """Return the tracker for ``tracking.uri``."""
    return NullTracker() if uri is None else MlflowTracker(absolute_uri(uri), warn)


def known_reports(facts: Iterable[dict[str, Any]], finished_s: dict[int, float]) -> list[TaskReport]:
    """Turn rows of ``MaskStore.facts`` into reports; ``finished_s`` by task."""
    keys = ("task", "test_accuracy", "train_loss", "train_seconds", "density")
    return [
        TaskReport(**{key: row[key] for key in keys}, finished_s=finished_s[row["task"]]) for row in facts
    ]
