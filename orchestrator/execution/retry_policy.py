"""What to do after a failed attempt. Pure."""

from dataclasses import dataclass
from typing import Literal

from core.errors import DeviceMemoryError, ForeignWorkerError, WorkerError
from orchestrator.execution.jobs import Job

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0

Action = Literal["retry", "split", "give_up", "stop"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do about a failed attempt.

    action: ``retry`` the job after ``delay_s``, on another worker if possible; ``split`` it into its
        tasks; ``give_up`` on it and go on; ``stop`` the run. dismiss: whether to replace the worker.
    """

    action: Action
    delay_s: float = 0.0
    dismiss: bool = False


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Distinguishes failures of the infrastructure from those of a task itself.

    max_retries: attempts after the first, of a cohort and then of each of its tasks alone; so a task
        is attempted at most 2 (max_retries + 1) times.
    """

    max_retries: int

    def decide(self, job: Job, error: Exception, num_attempts: int) -> Decision:
        """Return what to do after attempt ``num_attempts`` of ``job`` failed with ``error``."""
        is_last = num_attempts > self.max_retries
        if isinstance(error, ForeignWorkerError):
            # One such worker is one machine with other versions; a series of them is every machine.
            delay_s = 0.0 if is_last else self.delay_s(num_attempts)
            return Decision(action="stop" if is_last else "retry", delay_s=delay_s, dismiss=True)
        if is_infrastructure(error) and not is_last:
            return Decision(action="retry", delay_s=self.delay_s(num_attempts))
        if isinstance(error, DeviceMemoryError):  # not one task fits, so that each alone would fail as well
            return Decision(action="give_up")
        # A failure of one task, perhaps by killing its worker: it must not cost the whole cohort.
        return Decision(action="split" if job.is_divisible else "give_up")

    def delay_s(self, num_attempts: int) -> float:
        """Return how long to wait before the next attempt: exponential backoff up to a limit."""
        return float(min(FIRST_DELAY_S * 2 ** (num_attempts - 1), MAX_DELAY_S))


def is_infrastructure(error: Exception) -> bool:
    """Return whether a worker, its storage or its network failed, so that a retry may succeed."""
    return isinstance(error, WorkerError | OSError)
