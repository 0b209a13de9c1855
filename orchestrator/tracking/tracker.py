"""Keeps trackers up to date with a run, each in a background thread of its own.

The run folder is the source of truth, and every operation here is idempotent: while a tracker is down,
steps are retried, and whatever it missed is sent by the next ``supsup run``
or ``supsup sync``. Training never waits for a tracker.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import psutil

from core.errors import plural
from orchestrator.config.store_uri import absolute_uri
from orchestrator.execution.ctrl_c import stop_taken
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.run import Run
from orchestrator.tracking.base import Step
from orchestrator.tracking.registry import chosen_trackers
from orchestrator.tracking.sender import MlflowSender, Sender
from storage.run_file import RunRecord

RETRY_S = 5.0
FLUSH_S = 15.0  # at the end, wait this long after the last success
HURRY_S = 1.0  # the same for a stopped run: Ray kills a job three seconds after stopping it
SAMPLES_EVERY_S = 30.0
MANY_RUNS = 100  # left at the end; sending them takes seconds, so there is a message
BUSY_SHARE = 0.05  # of the thread's time spent sending, while no processor is free
FREE_PROCESSORS = 0.5


class Background:
    """Runs the steps of a sender in a thread, repeating each until it succeeds or time is up."""

    def __init__(self, sender: Sender, warn: Callable[[str], None]) -> None:
        self._sender = sender
        self._warn = warn
        self._trained: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._last_success_s = time.monotonic()
        self._has_warned = False
        self._is_sent = False
        self._rest_s = 0.0  # after sending a task's run
        self._thread = threading.Thread(target=self._work, name=f"{sender.name}-writer", daemon=True)

    @property
    def name(self) -> str:
        """The name of the tracker, in messages."""
        return self._sender.name

    @property
    def patience_s(self) -> float:
        """How long to wait, at the end, after the last success."""
        return max(FLUSH_S, self._sender.patience_s)

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def tasks(self, files: Iterable[str]) -> None:
        """Queue the files of trained tasks."""
        self._trained.put(list(files))

    def begin_to_close(self, *, is_hurried: bool) -> None:
        """Have the thread send what is left, and end."""
        if is_hurried:
            self._sender.hurry()
        self._sender.finish()
        self._trained.put(None)
        self._last_success_s = time.monotonic()
        self._closing.set()
        if not is_hurried:
            self._warn_of_many_runs()

    def wait(self, patience_s: float) -> None:
        """Wait for the thread, until the tracker has accepted nothing for that long."""
        while self._thread.is_alive() and time.monotonic() - self._last_success_s < patience_s:
            self._thread.join(timeout=0.1)

    def hurry(self) -> None:
        """Leave what takes long to the next start or to ``sync``."""
        self._sender.hurry()

    def abandon(self) -> bool:
        """Have the thread end after the step it is at; return whether everything was sent."""
        self._abandoned.set()
        return self._is_sent and not self._sender.num_waiting

    def _warn_of_many_runs(self) -> None:
        num_left = self._sender.num_waiting
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
        yield sender.begin
        yield sender.open
        yield partial(sender.add, None)
        while (trained := self._next_trained()) is not None:
            if trained:
                yield partial(sender.add, trained)
            elif sender.num_waiting:
                started_s = time.monotonic()
                yield sender.next_task
                self._rest_s = throttle.rest_s(time.monotonic() - started_s)
            if time.monotonic() - sampled_s > SAMPLES_EVERY_S:
                sampled_s = time.monotonic()
                yield sender.samples
        yield from sender.end()

    def _next_trained(self) -> list[str] | None:
        """Return the files of newly trained tasks; empty on a timeout, which is short if tasks wait; None at the end."""
        try:
            trained = self._trained.get(timeout=self._rest_s if self._sender.num_waiting else SAMPLES_EVERY_S)
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
        # No error of a tracker may fail the run: warn once and retry.
        except Exception as error:
            if not self._has_warned:
                reason = " ".join(str(error).split())[:160]
                self._warn(self._sender.trouble(reason))
            self._has_warned = True
            return False
        self._last_success_s = time.monotonic()
        return True


class Trackers:
    """All trackers of one run; calls return at once, except that ``close`` waits briefly."""

    def __init__(self, trackers: Sequence[Background] = ()) -> None:
        self._trackers = trackers

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the trackers, in messages."""
        return tuple(one.name for one in self._trackers)

    def open(self) -> None:
        """Start or resume the run; stored tasks that a tracker lacks are sent."""
        for one in self._trackers:
            one.open()

    def tasks(self, files: Iterable[str]) -> None:
        """Send newly trained tasks, by the names of their mask files, which are on disk."""
        found = list(files)
        for one in self._trackers:
            one.tasks(found)

    def close(self, *, is_hurried: bool = False) -> tuple[str, ...]:
        """End the run as its folder says; return the names of the trackers that lack something.

        is_hurried: take a second or two, and leave the rest to ``supsup sync``.
        """
        for one in self._trackers:
            one.begin_to_close(is_hurried=is_hurried)
        try:
            for one in self._trackers:
                one.wait(HURRY_S if is_hurried else one.patience_s)
        except KeyboardInterrupt:  # the run itself is done, and ending it is quick
            stop_taken()
            for one in self._trackers:
                one.hurry()
            for one in self._trackers:
                one.wait(HURRY_S)
        is_sent = {one.name: one.abandon() for one in self._trackers}
        return tuple(name for name, is_whole in is_sent.items() if not is_whole)


def open_trackers(run: Run, record: RunRecord, warn: Callable[[str], None]) -> Trackers:
    """Start to send a run to ``tracking.uri`` and to the trackers of ``tracking.also``. Raises ConfigError."""
    uri = run.config.tracking.uri
    senders = [] if uri is None else [MlflowSender(run, record, absolute_uri(uri))]
    others = [Sender(run, record, name, tracker) for name, tracker in chosen_trackers(run).items()]
    trackers = Trackers([Background(sender, warn) for sender in (*senders, *others)])
    trackers.open()
    return trackers


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
