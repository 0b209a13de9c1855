"""What follows a failed attempt: pure, so that it can be read and tested without a cluster."""

from dataclasses import dataclass
from typing import Literal

from core.errors import ForeignWorkerError, WorkerError
from orchestrator.execution.jobs import Job

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0

Action = Literal["retry", "split", "give_up", "stop"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do about a failed attempt.

    action: ``retry`` the job after ``delay_s``, elsewhere if there is a choice; ``split`` it into its
        tasks; ``give_up``, the rest goes on; ``stop`` the run. dismiss: let that worker do nothing more.
    """

    action: Action
    delay_s: float = 0.0
    dismiss: bool = False


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Decides by what failed: the infrastructure, or the task itself.

    max_retries: attempts after the first, of a cohort and again of each of its tasks alone; so no task
        is tried more than 2 (max_retries + 1) times.
    """

    max_retries: int

    def decide(self, job: Job, error: Exception, num_attempts: int) -> Decision:
        """Return what to do after attempt number ``num_attempts`` of ``job`` ended with ``error``."""
        is_last = num_attempts > self.max_retries
        if isinstance(error, ForeignWorkerError):
            # One such worker is a machine installed differently; one after another is all of them.
            delay_s = 0.0 if is_last else self.delay_s(num_attempts)
            return Decision(action="stop" if is_last else "retry", delay_s=delay_s, dismiss=True)
        if is_infrastructure(error) and not is_last:
            return Decision(action="retry", delay_s=self.delay_s(num_attempts))
        # The task's own, or one that takes its worker down: it must not take its cohort down.
        return Decision(action="split" if job.is_divisible else "give_up")

    def delay_s(self, num_attempts: int) -> float:
        """Return how long to wait before the next attempt: twice as long each time, up to a limit."""
        return float(min(FIRST_DELAY_S * 2 ** (num_attempts - 1), MAX_DELAY_S))


def is_infrastructure(error: Exception) -> bool:
    """Tell whether another attempt may do better: a worker, or the storage or network it needs."""
    return isinstance(error, WorkerError | OSError)
