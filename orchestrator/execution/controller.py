"""The control loop: submits jobs, collects attempts, applies the retry policy, notifies the watcher.

Knows executors only by their contract; knows no files, no Ray and no MLflow. One step of the loop
never blocks longer than ``POLL_S``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from core.errors import ForeignWorkerError
from orchestrator.execution.ctrl_c import defer_ctrl_c
from orchestrator.execution.executor import Executor
from orchestrator.execution.jobs import Attempt, Job, JobResult, StepsDone
from orchestrator.execution.retry_policy import RetryPolicy

POLL_S = 0.25
WAITING_NOTICE_S = 120.0  # between notices that there is no worker


class Watcher(Protocol):
    """Callbacks of the controller, in order and in its thread; they must return quickly."""

    def job_done(self, job: Job, result: JobResult) -> None:
        """Handle a job that succeeded; its files are on disk."""
        ...

    def job_retried(self, job: Job, worker: str, error: Exception, delay_s: float) -> None:
        """Handle a failed attempt that is repeated in ``delay_s``."""
        ...

    def job_failed(self, job: Job, worker: str, error: Exception, num_attempts: int) -> None:
        """Handle a job given up on; the other jobs go on."""
        ...

    def workers(self, num_busy: int, num_ready: int) -> None:
        """Take the numbers of busy and ready workers, at every step."""
        ...

    def steps(self, job: Job, steps: StepsDone) -> None:
        """Take how far a running job is."""
        ...

    def waiting(self, shortage: str, waited_s: float) -> None:
        """Handle ``waited_s`` without a worker; ``shortage`` is the reason."""
        ...


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A job given up on. failed_s: Unix time."""

    job: Job
    error: Exception
    num_attempts: int
    failed_s: float = field(default_factory=time.time, compare=False)


@dataclass
class _Queue:
    """Jobs waiting to be submitted: fresh ones in order, and failed ones with the time of their retry."""

    fresh: list[Job]
    delayed: list[tuple[float, Job]] = field(default_factory=list)
    attempts: dict[Job, int] = field(default_factory=dict)
    last_worker: dict[Job, str] = field(default_factory=dict)

    def next(self, now_s: float) -> Job | None:
        due = min(self.delayed, default=None, key=lambda item: item[0])
        if due is not None and due[0] <= now_s:
            self.delayed.remove(due)
            return due[1]
        return self.fresh.pop(0) if self.fresh else None


@dataclass
class _WorkerShortage:
    """Since when there has been no worker, and when that was last reported."""

    since_s: float | None = None
    notified_s: float = 0.0

    def check(self, executor: Executor, watcher: Watcher, now_s: float) -> None:
        if executor.num_slots:
            self.since_s = None
            return
        if self.since_s is None:
            self.since_s = self.notified_s = now_s
        if now_s - self.notified_s >= WAITING_NOTICE_S:
            self.notified_s = now_s
            watcher.waiting(executor.shortage(), now_s - self.since_s)


def run_jobs(
    jobs: Sequence[Job],
    executor: Executor,
    policy: RetryPolicy,
    watcher: Watcher,
    *,
    network_digest: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Failure, ...]:
    """Run all jobs until each has succeeded or failed for good, and return the failures.

    network_digest: of the base network; a result made with another one is rejected. Raises
    ForeignWorkerError if workers keep having another one, and KeyboardInterrupt between two steps if
    the user stops the run; what is on disk stays.
    """
    loop = _Loop(_Queue(fresh=list(jobs)), executor, policy, watcher, clock)
    worker_shortage, failures = _WorkerShortage(), []
    executor.on_steps = watcher.steps
    with defer_ctrl_c() as is_stopping:
        while loop.has_work and not is_stopping():
            loop.hand_out()
            watcher.workers(loop.num_out, executor.num_slots)
            worker_shortage.check(executor, watcher, clock())
            if loop.num_out == 0 and executor.num_slots:  # all that is left waits for a retry
                sleep(POLL_S)
            for attempt in executor.collect(POLL_S):
                failure = loop.settle(_checked(attempt, network_digest))
                failures += [failure] if failure else []
    return tuple(failures)


def _checked(attempt: Attempt, network_digest: str) -> Attempt:
    """Replace a result made with another base network by an error."""
    found = None if attempt.result is None else attempt.result.network_digest
    if found in (None, network_digest):
        return attempt
    error = ForeignWorkerError(
        f"{attempt.worker} used a base network with digest {str(found)[:16]}..., but the run has "
        f"{network_digest[:16]}...: install the same versions on every machine"
    )
    return replace(attempt, result=None, error=error)


@dataclass
class _Loop:
    """The state of ``run_jobs`` between steps."""

    queue: _Queue
    executor: Executor
    policy: RetryPolicy
    watcher: Watcher
    clock: Callable[[], float]
    num_out: int = 0

    @property
    def has_work(self) -> bool:
        return bool(self.queue.fresh or self.queue.delayed or self.num_out)

    def hand_out(self) -> None:
        queue = self.queue
        while self.num_out < self.executor.num_slots and (job := queue.next(self.clock())):
            queue.attempts[job] = queue.attempts.get(job, 0) + 1
            self.executor.submit(job, avoid=queue.last_worker.get(job))
            self.num_out += 1

    def settle(self, attempt: Attempt) -> Failure | None:
        self.num_out -= 1
        if attempt.error is not None:
            return self._after_failure(attempt.job, attempt.worker, attempt.error)
        assert attempt.result is not None, "an outcome has a result or an error"
        self.watcher.job_done(attempt.job, attempt.result)
        return None

    def _after_failure(self, job: Job, worker: str, error: Exception) -> Failure | None:
        num_attempts = self.queue.attempts[job]
        decision = self.policy.decide(job, error, num_attempts)
        if decision.dismiss:
            self.executor.dismiss(worker)
        if decision.action == "stop":
            raise error
        if decision.action == "give_up":
            self.watcher.job_failed(job, worker, error, num_attempts)
            return Failure(job=job, error=error, num_attempts=num_attempts)
        if decision.action == "split":
            self.queue.fresh[:0] = [replace(job, first=task, last=task) for task in job.tasks]
        else:
            self.queue.last_worker[job] = worker
            self.queue.delayed.append((self.clock() + decision.delay_s, job))
        self.watcher.job_retried(job, worker, error, decision.delay_s)
        return None
