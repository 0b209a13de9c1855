"""Executors run jobs on workers. The contract, and the executor that needs no cluster.

Contract (checked for every executor by tests/orchestrator/execution/test_executor.py):
- ``submit`` is called only while fewer than ``num_slots`` jobs are out, and returns at once.
- Each submitted job comes back from ``collect`` exactly once, done or failed; the executor
  never retries and never raises for a job's failure.
- ``num_slots`` counts the workers that are ready; it grows and shrinks as they come and go.
- A failed job leaves the executor usable, also when its worker died.
- ``close`` does not wait for jobs that are out; it may be called twice.
"""

from collections.abc import Callable
from typing import Any, Protocol

from orchestrator.execution.jobs import Attempt, Job, JobResult


class WorkerLike(Protocol):
    """What an executor needs of a worker."""

    def run(self, job: Job) -> JobResult:
        """Do the job or raise."""
        ...


# Builds a worker from what all workers share, read-only: the data set.
WorkerFactory = Callable[[Any], WorkerLike]


class Executor(Protocol):
    """Runs jobs; see the contract at the top of this file."""

    @property
    def num_slots(self) -> int:
        """Jobs that can be out at once now."""
        ...

    def shortage(self) -> str:
        """Say what workers ask for and what there is; asked while no slot is ready."""
        ...

    def dismiss(self, worker: str) -> None:
        """Let a worker do nothing more; another takes its place."""
        ...

    def submit(self, job: Job, *, avoid: str | None = None) -> None:
        """Start ``job``, if there is a choice on another worker than ``avoid``."""
        ...

    def collect(self, timeout_s: float) -> list[Attempt]:
        """Return what has ended; wait up to ``timeout_s`` for the first."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class InlineExecutor:
    """Runs each job in this process when it is collected: no cluster, short stack traces."""

    num_slots = 1

    def __init__(self, make_worker: WorkerFactory, shared: Any) -> None:
        self._make_worker = make_worker
        self._shared = shared
        self._worker: WorkerLike | None = None
        self._jobs: list[Job] = []

    def shortage(self) -> str:
        """Say that this process is there."""
        return "this process is the worker"

    def dismiss(self, worker: str) -> None:
        """Make the worker anew for the next job."""
        del worker
        self._worker = None

    def submit(self, job: Job, *, avoid: str | None = None) -> None:
        """Keep ``job`` for ``collect``; there is only one worker, so ``avoid`` has no effect."""
        del avoid
        self._jobs.append(job)

    def collect(self, timeout_s: float) -> list[Attempt]:
        """Run one job to its end, however long that takes."""
        del timeout_s
        if not self._jobs:
            return []
        job = self._jobs.pop(0)
        try:
            if self._worker is None:
                self._worker = self._make_worker(self._shared)
            return [Attempt(job=job, worker="inline", result=self._worker.run(job))]
        # Whatever a job raises is its outcome; what to do about it is the controller's policy.
        except Exception as error:
            return [Attempt(job=job, worker="inline", error=error)]

    def close(self) -> None:
        """Forget the worker."""
        self._worker = None
        self._jobs.clear()
