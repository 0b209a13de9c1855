"""Executors run jobs on workers. The contract, and the executor that needs no cluster.

Contract (checked for every executor by tests/orchestrator/execution/test_executor.py):
- ``submit`` is called only while fewer than ``num_slots`` jobs are running, and returns at once.
- ``collect`` returns each submitted job exactly once, done or failed; the executor never retries,
  and never raises for a job's failure.
- ``num_slots`` is the number of ready workers; it changes as they come and go.
- The executor stays usable after a failed job, even if its worker died.
- ``close`` does not wait for running jobs; it may be called twice.
- ``on_steps`` is called, in the caller's thread, with the steps that a running job reported.
- ``stop`` lets running jobs save where they stand; after it, only ``close`` is called. An executor whose
  jobs run in the caller's thread does that as soon as Ctrl-C is pressed, before it raises KeyboardInterrupt.
"""

from collections.abc import Callable
from typing import Any, Protocol

from orchestrator.execution.ctrl_c import defer_ctrl_c
from orchestrator.execution.jobs import (
    Attempt,
    IsStopping,
    Job,
    JobResult,
    JobStopped,
    ReportSteps,
    StepsDone,
)


def ignore_steps(job: Job, steps: StepsDone) -> None:
    """Do nothing with a report of steps."""


def never_stopping() -> bool:
    """Return that nobody has stopped the run."""
    return False


class WorkerLike(Protocol):
    """The interface that executors need of a worker.

    on_steps, is_stopping: set by the executor. A job that can save its work asks ``is_stopping`` often,
    saves when it is true, and raises JobStopped.
    """

    on_steps: ReportSteps
    is_stopping: IsStopping

    def run(self, job: Job) -> JobResult:
        """Run the job, or raise."""
        ...


# Builds a worker from the data set, which all workers share read-only.
WorkerFactory = Callable[[Any], WorkerLike]


class Executor(Protocol):
    """Runs jobs; see the contract at the top of this file. on_steps: set by the caller."""

    on_steps: ReportSteps

    @property
    def num_slots(self) -> int:
        """How many jobs can run at once now."""
        ...

    def shortage(self) -> str:
        """Return, as a sentence, why no worker is ready; called only while none is."""
        ...

    def dismiss(self, worker: str) -> None:
        """Replace a worker by a new one."""
        ...

    def submit(self, job: Job, *, avoid: str | None = None) -> None:
        """Start ``job``, on another worker than ``avoid`` if there is a choice."""
        ...

    def collect(self, timeout_s: float) -> list[Attempt]:
        """Return the attempts that ended; wait up to ``timeout_s`` for the first."""
        ...

    def stop(self, limit_s: float) -> None:
        """Ask running jobs to save and end; wait for them, at most ``limit_s``."""
        ...

    def close(self) -> None:
        """Release all resources."""
        ...


class InlineExecutor:
    """Runs each job in this process when it is collected; no cluster, and short stack traces."""

    num_slots = 1

    def __init__(self, make_worker: WorkerFactory, shared: Any) -> None:
        self._make_worker = make_worker
        self._shared = shared
        self._worker: WorkerLike | None = None
        self._jobs: list[Job] = []
        self.on_steps: ReportSteps = ignore_steps

    def shortage(self) -> str:
        """Return that this process is the worker."""
        return "this process is the worker"

    def dismiss(self, worker: str) -> None:
        """Drop the worker; the next job builds a new one."""
        del worker
        self._worker = None

    def submit(self, job: Job, *, avoid: str | None = None) -> None:
        """Queue ``job``; there is only one worker, so ``avoid`` has no effect."""
        del avoid
        self._jobs.append(job)

    def collect(self, timeout_s: float) -> list[Attempt]:
        """Run one job to its end, ignoring ``timeout_s``."""
        del timeout_s
        if not self._jobs:
            return []
        job = self._jobs.pop(0)
        with defer_ctrl_c() as is_stopping:
            try:
                worker = self._ready_worker(is_stopping)
                return [Attempt(job=job, worker="inline", result=worker.run(job))]
            # Any error of a job is a result; the controller decides what to do about it.
            except Exception as error:
                return [Attempt(job=job, worker="inline", error=error)]

    def _ready_worker(self, is_stopping: IsStopping) -> WorkerLike:
        """Return the worker, made if there is none, which may take seconds. Raises JobStopped."""
        if self._worker is None:
            self._worker = self._make_worker(self._shared)
        if is_stopping():
            raise JobStopped
        self._worker.on_steps, self._worker.is_stopping = self.on_steps, is_stopping
        return self._worker

    def stop(self, limit_s: float) -> None:
        """Do nothing: Ctrl-C has let the job save before it reached the caller."""
        del limit_s

    def close(self) -> None:
        """Drop the worker and its jobs."""
        self._worker = None
        self._jobs.clear()
