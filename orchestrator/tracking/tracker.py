"""Sends a run to MLflow from the files in its folder, in one background thread.

The run folder is the source of truth, and every operation here is idempotent: while a store is down,
steps are retried, and whatever it missed is sent by the next ``supsup run``
or ``supsup sync``. Training never waits for MLflow.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import psutil

from core.errors import plural
from core.printing import redacted
from orchestrator.config.store_uri import absolute_uri
from orchestrator.execution.ctrl_c import stop_taken
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.run import Run
from orchestrator.tracking.content import tracked_end, tracked_run, tracked_tasks
from orchestrator.tracking.messages import TrackedEnd, TrackedTask
from orchestrator.tracking.samples import SystemSampler, read_samples
from storage.run_file import RunRecord

RETRY_S = 5.0
FLUSH_S = 15.0  # at the end, wait this long after the last success
HURRY_S = 1.0  # the same for a stopped run: Ray kills a job three seconds after stopping it
SAMPLES_EVERY_S = 30.0
MANY_RUNS = 100  # left at the end; sending them takes seconds, so there is a message
BUSY_SHARE = 0.05  # of the thread's time spent sending, while no processor is free
FREE_PROCESSORS = 0.5

Step = Callable[[], object]


class Tracker(Protocol):
    """Sends a run to a tracking store; calls return at once, except that ``close`` waits briefly."""

    def open(self) -> None:
        """Start or resume the run; stored tasks that the tracking store lacks are sent."""
        ...

    def tasks(self, files: Iterable[str]) -> None:
        """Send newly trained tasks, by the names of their mask files, which are on disk."""
        ...

    def close(self, *, is_hurried: bool = False) -> bool:
        """End the run as its folder says; return whether everything was sent.

        is_hurried: take a second or two, and leave the rest to ``supsup sync``.
        """
        ...


class NullTracker:
    """``tracking.uri: null``."""

    def open(self) -> None:
        """Do nothing."""

    def tasks(self, files: Iterable[str]) -> None:
        """Do nothing."""

    def close(self, *, is_hurried: bool = False) -> bool:
        """Do nothing."""
        del is_hurried
        return True


@dataclass
class Sender:
    """Sends one run in steps, each of which can be repeated.

    mlflow: an ``orchestrator.tracking.runs.MlflowRun``, once open. waiting: tasks whose own runs are
    not sent yet. is_hurried: set by the caller to leave those to the next start or to ``sync``.
    """

    run: Run
    record: RunRecord
    uri: str
    mlflow: Any = None
    waiting: dict[int, TrackedTask] = field(default_factory=dict)
    is_hurried: bool = False

    def open(self) -> None:
        """Find or create the run in MLflow."""
        from orchestrator.tracking.runs import MlflowRun  # takes seconds to import

        self.mlflow = MlflowRun.open(self.uri, tracked_run(self.run, self.record))

    def add(self, files: Iterable[str] | None) -> None:
        """Log the metrics of the tasks in mask files (None: all); their own runs wait for ``next_task``."""
        found = tracked_tasks(self.run, None if files is None else set(files))
        self.mlflow.log_tasks(found)
        self.waiting |= {task.task: task for task in found if self.mlflow.tasks.wants(task.task)}

    def next_task(self) -> None:
        """Send the own run of one waiting task."""
        task = next(iter(self.waiting))
        self.mlflow.tasks.log(self.waiting[task])
        del self.waiting[task]

    def samples(self) -> None:
        """Send the samples of the machine's load."""
        self.mlflow.log_samples(read_samples(self.run.layout))

    def end(self) -> Iterator[Step]:
        """Yield the steps that end the run: its results, then the runs of waiting and failed tasks."""
        read: list[TrackedEnd] = []
        yield lambda: read.append(tracked_end(self.run, self.record))
        end = read[0]
        yield self.samples
        yield partial(self.mlflow.log_end, end)
        while self.waiting and not self.is_hurried:
            yield self.next_task
        yield from (partial(self.mlflow.tasks.log_failed, task) for task in end.failed)
        yield partial(self.mlflow.finish, end)


class MlflowTracker:
    """Runs the steps of a ``Sender`` in a thread, repeating each until it succeeds or time is up."""

    def __init__(self, sender: Sender, warn: Callable[[str], None]) -> None:
        self._sender = sender
        self._warn = warn
        self._sampler = SystemSampler(sender.run.layout)
        self._trained: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._last_success_s = time.monotonic()
        self._has_warned = False
        self._is_sent = False
        self._rest_s = 0.0  # after sending a task's run
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def tasks(self, files: Iterable[str]) -> None:
        """Queue the files of trained tasks."""
        self._trained.put(list(files))

    def close(self, *, is_hurried: bool = False) -> bool:
        """Wait for the thread, until MLflow has accepted nothing for a while, or Ctrl-C."""
        self._sender.is_hurried = is_hurried
        self._sampler.close()
        self._trained.put(None)
        self._last_success_s = time.monotonic()
        self._closing.set()
        if not is_hurried:
            self._warn_of_many_runs()
        try:
            self._wait(HURRY_S if is_hurried else FLUSH_S)
        except KeyboardInterrupt:  # the run itself is done, and ending it is quick
            stop_taken()
            self._sender.is_hurried = True
            self._wait(HURRY_S)
        self._abandoned.set()
        return self._is_sent and not self._sender.waiting

    def _wait(self, patience_s: float) -> None:
        while self._thread.is_alive() and time.monotonic() - self._last_success_s < patience_s:
            self._thread.join(timeout=0.1)

    def _warn_of_many_runs(self) -> None:
        num_left = len(self._sender.waiting)
        if num_left > MANY_RUNS and not self._has_warned:
            run = self._sender.run
            rest = supsup_command("sync", run.layout.root, config=run.config)
            self._warn(
                f"sending the runs of {plural(num_left, 'task')} to MLflow; Ctrl-C leaves them to `{rest}`"
            )

    def _work(self) -> None:
        for step in self._steps():
            while not self._succeeds(step):
                self._closing.wait(RETRY_S)
                if self._abandoned.wait(1.0 if self._closing.is_set() else 0.0):
                    return
        self._is_sent = True

    def _steps(self) -> Iterator[Step]:
        sender, sampled_s, throttle = self._sender, time.monotonic(), Throttle()
        yield self._start_sampler
        yield sender.open
        yield partial(sender.add, None)
        while (trained := self._next_trained()) is not None:
            if trained:
                yield partial(sender.add, trained)
            elif sender.waiting:
                started_s = time.monotonic()
                yield sender.next_task
                self._rest_s = throttle.rest_s(time.monotonic() - started_s)
            if time.monotonic() - sampled_s > SAMPLES_EVERY_S:
                sampled_s = time.monotonic()
                yield sender.samples
        yield from sender.end()

    def _start_sampler(self) -> None:
        import orchestrator.tracking.runs  # noqa: F401  # two threads cannot import mlflow at once

        self._sampler.start()

    def _next_trained(self) -> list[str] | None:
        """Return the files of newly trained tasks; empty on a timeout, which is short if tasks wait; None at the end."""
        try:
            trained = self._trained.get(timeout=self._rest_s if self._sender.waiting else SAMPLES_EVERY_S)
            while trained is not None and not self._trained.empty():
                more = self._trained.get()
                if more is None:
                    self._trained.put(None)
                    break
                trained += more
        except queue.Empty:
            return []
        return trained

    def _succeeds(self, step: Step) -> bool:
        if self._abandoned.is_set():
            return False
        try:
            step()
        # No error of MLflow may fail the run: warn once and retry.
        except Exception as error:
            if not self._has_warned:
                reason = " ".join(str(error).split())[:160]
                uri = self._sender.uri
                limit_s = os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
                self._warn(
                    f"MLflow at {redacted(uri)} does not answer; training goes on "
                    f"(after {limit_s} s for each try: {redacted(reason)})"
                )
            self._has_warned = True
            return False
        self._last_success_s = time.monotonic()
        return True


def make_tracker(run: Run, record: RunRecord, warn: Callable[[str], None]) -> Tracker:
    """Return the tracker for ``tracking.uri``."""
    uri = run.config.tracking.uri
    return NullTracker() if uri is None else MlflowTracker(Sender(run, record, absolute_uri(uri)), warn)


class Throttle:
    """Slows down sending while all processors are busy."""

    def __init__(self) -> None:
        self._last = psutil.cpu_times()

    def rest_s(self, worked_s: float) -> float:
        """Return how long to rest after ``worked_s`` of work: 0 if a processor was free since the last call."""
        now, before = psutil.cpu_times(), self._last
        self._last = now
        whole_s = sum(now) - sum(before)
        if whole_s <= 0 or idle_processors(now.idle - before.idle, whole_s) > FREE_PROCESSORS:
            return 0.0
        return worked_s * (1 / BUSY_SHARE - 1)


def idle_processors(idle_s: float, whole_s: float) -> float:
    """Return the mean number of idle processors. idle_s, whole_s: summed over all processors."""
    return (psutil.cpu_count() or 1) * idle_s / whole_s
