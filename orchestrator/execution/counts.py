"""The counts of one phase of work: how much is done, how fast, how long the rest takes."""

import time
from dataclasses import dataclass, field

from orchestrator.execution.jobs import Job, JobResult, StepsDone

MIN_WORK = 0.05  # tasks, for a pace: the first steps compile


@dataclass
class Counts:
    """What is done of a phase, in tasks (or ``unit``), with the steps of the jobs at work."""

    num_total: int = 0
    num_done: int = 0
    unit: str = "tasks"
    num_jobs: int = 0
    num_failed: int = 0
    num_retried: int = 0
    num_busy: int = 0
    num_ready: int | None = None  # until the first news of workers
    _num_new: int = 0
    _last_s: float = 0.0
    start_s: float = field(default_factory=time.monotonic)
    work_s: float | None = None
    _running: dict[Job, StepsDone] = field(default_factory=dict)
    _first_share: dict[Job, float] = field(default_factory=dict)  # done when first seen: a job may be resumed

    def add(self, job: Job, result: JobResult) -> None:
        """Count a finished job."""
        del result
        self._running.pop(job, None)
        self.count(len(job.tasks))

    def count(self, num_done: int) -> None:
        """Count tasks done."""
        self.num_done += num_done
        self._num_new += num_done
        self._last_s = time.monotonic()

    def set_steps(self, job: Job, steps: StepsDone) -> None:
        """Set how far a running job is."""
        self._first_share.setdefault(job, steps.share)
        self._running[job] = steps

    def fail(self, job: Job, *, for_good: bool) -> None:
        """Count the tasks of a job that is given up on, or an attempt that is retried."""
        self._running.pop(job, None)
        self.num_failed += len(job.tasks) if for_good else 0
        self.num_retried += not for_good

    def set_workers(self, num_busy: int, num_ready: int) -> None:
        """Set the numbers of workers; the pace counts from the first busy one."""
        self.num_busy, self.num_ready = num_busy, num_ready
        if num_busy and self.work_s is None:
            self.work_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the phase began."""
        return max(time.monotonic() - self.start_s, 1e-6)

    @property
    def running(self) -> StepsDone | None:
        """The steps of all jobs at work together, None before the first report."""
        if not self._running:
            return None
        steps = list(self._running.values())
        return StepsDone(sum(one.done for one in steps), sum(one.total for one in steps), steps[0].unit)

    def speed(self) -> tuple[float, float] | None:
        """Return tasks per second and the seconds left, once known."""
        num_new = self._num_new + self._under_way(new=True)
        if num_new < MIN_WORK:
            return None
        now_s = time.monotonic()
        until_s = now_s if self._running else self._last_s
        since_s = self.start_s if self.work_s is None else self.work_s
        rate = num_new / max(until_s - since_s, 1e-6)
        left_s = max(0, self.num_total - self.num_done - self.num_failed - self._under_way()) / rate
        left_s -= now_s - until_s  # jobs that report no steps have progressed since
        return rate, max(0.0, left_s)

    def _under_way(self, *, new: bool = False) -> float:
        """Return the tasks' worth of steps in running jobs; new: without what they resumed from."""
        return sum(
            (steps.share - (self._first_share[job] if new else 0.0)) * len(job.tasks)
            for job, steps in self._running.items()
        )
