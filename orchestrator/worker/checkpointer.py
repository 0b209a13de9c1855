"""Checkpoints of a job, its reports of steps, and its end when the user stops the run."""

import time

import numpy as np

from core.training.loop import Arrays
from orchestrator.execution.jobs import Job, JobStopped, StepsDone
from orchestrator.worker.base import WorkerContext
from storage.checkpoints import STEPS, Checkpoint

REPORT_STEPS_S = 1.0
ASK_EVERY_S = 0.05  # whether to stop: asking after every step would show
MAX_SAVE_SHARE = 0.02  # of the time of training, for writing checkpoints
STOP_S = 1.5  # a stop has two seconds; what takes longer to save is lost since the last checkpoint
MOST_LOST_S = 30.0


class JobSteps:
    """Reports the steps of a job, once a second, and tells whether it is to stop."""

    def __init__(self, context: WorkerContext, job: Job) -> None:
        self._job, self._on_steps, self._reported_s = job, context.on_steps, 0.0
        self._ask, self._asked_s, self._is_stopping = context.is_stopping, 0.0, False

    def is_stopping(self) -> bool:
        """Return whether the user has stopped the run, as of a moment ago."""
        now_s = time.monotonic()
        if now_s - self._asked_s >= ASK_EVERY_S:
            self._asked_s, self._is_stopping = now_s, self._ask()
        return self._is_stopping

    def report(self, num_done: int, num_steps: int, unit: str = "step") -> None:
        """Report the steps, unless the last report is too recent."""
        if time.monotonic() - self._reported_s >= REPORT_STEPS_S:
            self._reported_s = time.monotonic()
            self._on_steps(self._job, StepsDone(num_done, num_steps, unit))


class JobCheckpointer:
    """A ``core.training.loop.Checkpointer`` of one job. note: warns of ignored files."""

    def __init__(self, context: WorkerContext, job: Job) -> None:
        setup = context.setup
        header = {
            "fingerprint": setup.identity.fingerprint,
            "network": setup.identity.network["digest"],
            **context.machine(),
        }
        self._checkpoint = Checkpoint(setup.layout.cohort_checkpoint(job.first, job.last), header)
        self._steps, self._done = JobSteps(context, job), (0, 0)
        self._save_every_s = self._interval_s = setup.save_every_s
        self._saved_s, self._writing_s = time.monotonic(), 0.0
        self.note: str | None = None

    def load(self) -> Arrays | None:
        """Return the last usable checkpoint, if any."""
        arrays, problems = self._checkpoint.read_latest()
        self.note = "\n".join(f"{problem}; this save is ignored" for problem in problems) or None
        return arrays

    def is_due(self) -> bool:
        """Return whether the run is to stop, or its interval has passed since the last checkpoint."""
        return self._steps.is_stopping() or time.monotonic() - self._saved_s >= self._interval_s

    def save(self, arrays: Arrays) -> None:
        """Commit a checkpoint, replacing the previous one. Raises JobStopped if the run is to stop."""
        is_stopping = self._steps.is_stopping()
        if not (is_stopping and self._writing_s > STOP_S):
            self._write(arrays)
        if is_stopping:
            raise JobStopped

    def on_step(self, num_done: int, num_steps: int) -> None:
        """Report the steps, once a second."""
        self._done = num_done, num_steps
        self._steps.report(num_done, num_steps)

    def end(self) -> None:
        """Remove the checkpoints: the job's result is stored."""
        self._checkpoint.remove()

    def _write(self, arrays: Arrays) -> None:
        start_s = time.monotonic()
        self._checkpoint.write({STEPS: np.array(self._done), **arrays})
        self._saved_s = time.monotonic()
        self._writing_s = self._saved_s - start_s
        sparing_s = self._writing_s / MAX_SAVE_SHARE
        if self._writing_s > STOP_S:  # too long for a stop, so a stop loses the whole interval
            sparing_s = min(sparing_s, MOST_LOST_S)
        self._interval_s = max(self._save_every_s, sparing_s)
