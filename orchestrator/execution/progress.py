"""The base class of displays, which show the progress of a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.execution.jobs import Job, JobResult, StepsDone


class Display:
    """Shows progress and messages. This base class shows nothing."""

    def start(
        self, verb: str, num_total: int, num_done: int, unit: str = "tasks", *, num_jobs: int = 0
    ) -> None:
        """Begin a phase over ``num_total`` tasks (or ``unit``), ``num_done`` of which are done already.

        num_jobs: cohorts, or other jobs, for the rest.
        """

    def on_result(self, job: Job, result: JobResult) -> None:
        """Count the tasks of a finished job; only a training job has reports."""

    def count(self, num_done: int) -> None:
        """Count tasks done without a job."""

    def failed(self, job: Job, *, for_good: bool) -> None:
        """Count the tasks of a job that is given up on, or an attempt that is retried."""

    def workers(self, num_busy: int, num_ready: int) -> None:
        """Show how many workers are busy and how many are ready."""

    def steps(self, job: Job, steps: StepsDone) -> None:
        """Show how far a running job is."""

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what is waited for, for as long as the context lasts; not within a phase."""
        del what
        yield

    def message(self, text: str) -> None:
        """Show a message, without breaking the view."""

    def stop(self) -> None:
        """End the phase."""
