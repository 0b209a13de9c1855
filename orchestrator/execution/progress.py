"""What a person sees of a run: a live view on a terminal, plain lines elsewhere, or nothing."""

from orchestrator.execution.jobs import Job, JobResult


class Display:
    """Shows progress and messages; this one shows nothing, and its subclasses what they are for."""

    def start(
        self, verb: str, num_total: int, num_done: int, unit: str = "tasks", *, num_jobs: int = 0
    ) -> None:
        """Begin a phase over ``num_total`` tasks (or ``unit``), ``num_done`` of which need nothing.

        num_jobs: cohorts, or other jobs, that the rest is cut into.
        """

    def on_result(self, job: Job, result: JobResult) -> None:
        """Count the tasks of a finished job; only one that trained has reports."""

    def count(self, num_done: int) -> None:
        """Count what is done without a job."""

    def failed(self, num_tasks: int) -> None:
        """Count tasks given up on; 0 for an attempt that is made again."""

    def workers(self, num_busy: int, num_ready: int) -> None:
        """Show how many workers there are, and how many are at a job."""

    def message(self, text: str) -> None:
        """Say one thing, without breaking the view."""

    def stop(self) -> None:
        """End the phase."""
