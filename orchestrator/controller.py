"""The loop: hand out jobs, take what comes back, retry or give up, tell who watches.

Knows executors only by their contract, and neither files, Ray nor MLflow. One step of
the loop never blocks longer than ``POLL_S``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from core.errors import InputError, TrainingError
from orchestrator.executors import Executor
from orchestrator.jobs import Job, JobResult, Outcome

POLL_S = 0.5
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0


class Watcher(Protocol):
    """Is told what happens, in the controller's thread, in order; must return quickly."""

    def job_done(self, job: Job, result: JobResult) -> None:
        """Note a job that ended well; its files are on disk."""
        ...

    def job_retried(self, job: Job, error: Exception, delay_s: float) -> None:
        """Note a failed attempt; another follows in ``delay_s``."""
        ...

    def job_failed(self, job: Job, error: Exception, num_attempts: int) -> None:
        """Note that the last attempt failed; the rest goes on."""
        ...


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Decides what follows a failed attempt; needs no cluster to test.

    max_retries: attempts after the first. A failure that would repeat gets none.
    """

    max_retries: int

    def delay_s(self, error: Exception, num_attempts: int) -> float | None:
        """Return how long to wait before the next attempt, None to give up."""
        if isinstance(error, TrainingError | InputError) or num_attempts > self.max_retries:
            return None
        return float(min(FIRST_DELAY_S * 2 ** (num_attempts - 1), MAX_DELAY_S))


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A job given up on."""

    job: Job
    error: Exception
    num_attempts: int


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


def run_jobs(
    jobs: Sequence[Job],
    executor: Executor,
    policy: RetryPolicy,
    watcher: Watcher,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Failure, ...]:
    """Run all jobs to an end, good or bad, and return those given up on.

    An interrupt (KeyboardInterrupt) passes through: what is on disk stays.
    """
    queue, num_out, failures = _Queue(fresh=list(jobs)), 0, []
    while queue.fresh or queue.delayed or num_out:
        while num_out < executor.num_slots and (job := queue.next(clock())):
            queue.attempts[job] = queue.attempts.get(job, 0) + 1
            executor.submit(job, avoid=queue.last_worker.get(job))
            num_out += 1
        if num_out == 0:
            sleep(POLL_S)
        for outcome in executor.collect(POLL_S):
            num_out -= 1
            failure = _settle(outcome, queue, policy, watcher, clock)
            failures += [failure] if failure else []
    return tuple(failures)


def _settle(
    outcome: Outcome, queue: _Queue, policy: RetryPolicy, watcher: Watcher, clock: Callable[[], float]
) -> Failure | None:
    job, error = outcome.job, outcome.error
    if error is None:
        assert outcome.result is not None, "an outcome has a result or an error"
        watcher.job_done(job, outcome.result)
        return None
    num_attempts = queue.attempts[job]
    delay_s = policy.delay_s(error, num_attempts)
    if delay_s is None and job.is_divisible:
        # One bad task must not take its cohort down: each goes on alone.
        queue.fresh[:0] = [replace(job, first=task, last=task) for task in job.tasks]
        watcher.job_retried(job, error, 0.0)
        return None
    if delay_s is None:
        watcher.job_failed(job, error, num_attempts)
        return Failure(job=job, error=error, num_attempts=num_attempts)
    queue.last_worker[job] = outcome.worker
    queue.delayed.append((clock() + delay_s, job))
    watcher.job_retried(job, error, delay_s)
    return None
