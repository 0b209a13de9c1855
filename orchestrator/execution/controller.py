"""The loop: hand out jobs, take what comes back, do what the policy decides, tell who watches.

Knows executors only by their contract, and neither files, Ray nor MLflow. One step of
the loop never blocks longer than ``POLL_S``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from core.errors import ForeignWorkerError
from orchestrator.execution.executor import Executor
from orchestrator.execution.jobs import Attempt, Job, JobResult
from orchestrator.execution.retry_policy import RetryPolicy

POLL_S = 0.5
WAITING_NOTICE_S = 120.0  # without any worker, then again each time as long


class Watcher(Protocol):
    """Is told what happens, in the controller's thread, in order; must return quickly."""

    def job_done(self, job: Job, result: JobResult) -> None:
        """Note a job that ended well; its files are on disk."""
        ...

    def job_retried(self, job: Job, worker: str, error: Exception, delay_s: float) -> None:
        """Note a failed attempt; another follows in ``delay_s``."""
        ...

    def job_failed(self, job: Job, worker: str, error: Exception, num_attempts: int) -> None:
        """Note that the last attempt failed; the rest goes on."""
        ...

    def workers(self, num_busy: int, num_ready: int) -> None:
        """Note how many workers are there, and how many are at a job; told at every step."""
        ...

    def waiting(self, shortage: str, waited_s: float) -> None:
        """Note that there has been no worker for so long; ``shortage`` says why."""
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
    """Jobs not out: fresh ones in order, and failed ones with the time they may go again."""

    fresh: list[Job]
    delayed: list[tuple[float, Job]] = field(default_factory=list)
    attempts: dict[Job, int] = field(default_factory=dict)
    last_worker: dict[Job, str] = field(default_factory=dict)

    def next(self, now_s: float) -> Job | None:
        ripe = min(self.delayed, default=None, key=lambda item: item[0])
        if ripe is not None and ripe[0] <= now_s:
            self.delayed.remove(ripe)
            return ripe[1]
        return self.fresh.pop(0) if self.fresh else None


@dataclass
class _WorkerShortage:
    """Since when there has been no worker, and whether that was said lately."""

    since_s: float | None = None
    said_s: float = 0.0

    def look(self, executor: Executor, watcher: Watcher, now_s: float) -> None:
        if executor.num_slots:
            self.since_s = None
            return
        if self.since_s is None:
            self.since_s = self.said_s = now_s
        if now_s - self.said_s >= WAITING_NOTICE_S:
            self.said_s = now_s
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
    """Run all jobs to an end, good or bad, and return those given up on.

    network_digest: of the base network; a result made with another one is refused. Raises
    ForeignWorkerError when workers have another one again and again. An interrupt
    (KeyboardInterrupt) passes through: what is on disk stays.
    """
    loop = _Loop(_Queue(fresh=list(jobs)), executor, policy, watcher, clock)
    worker_shortage, failures = _WorkerShortage(), []
    while loop.is_going:
        loop.hand_out()
        watcher.workers(loop.num_out, executor.num_slots)
        worker_shortage.look(executor, watcher, clock())
        if loop.num_out == 0 and executor.num_slots:  # what is left waits to be tried again
            sleep(POLL_S)
        for attempt in executor.collect(POLL_S):
            failure = loop.settle(_checked(attempt, network_digest))
            failures += [failure] if failure else []
    return tuple(failures)


def _checked(attempt: Attempt, network_digest: str) -> Attempt:
    """Turn a result made with another base network into an error."""
    found = None if attempt.result is None else attempt.result.network_digest
    if found in (None, network_digest):
        return attempt
    error = ForeignWorkerError(
        f"{attempt.worker} worked with a base network of digest {str(found)[:16]}..., the run has "
        f"{network_digest[:16]}...: install the same versions on every machine"
    )
    return replace(attempt, result=None, error=error)


@dataclass
class _Loop:
    """What ``run_jobs`` keeps from step to step."""

    queue: _Queue
    executor: Executor
    policy: RetryPolicy
    watcher: Watcher
    clock: Callable[[], float]
    num_out: int = 0

    @property
    def is_going(self) -> bool:
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
