"""A fake executor with a script of answers, a fake clock, and workers that misbehave."""

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import TrainingError
from orchestrator.execution.jobs import Attempt, Job, JobResult, StepsDone, TaskReport
from orchestrator.runs.sizing import Device, Resources


def resources_of(num_workers=1, gpus_per_worker=0.0, free_bytes=10**9, **device: Any) -> Resources:
    """Return resources on a made-up device that can compile."""
    made_up = {"name": "made up", "has_compiler": True, "has_triton": True, "told_by": "here"} | device
    return Resources(
        num_workers=num_workers,
        gpus_per_worker=gpus_per_worker,
        device=Device(free_bytes=free_bytes, **made_up),
    )


def report(task: int) -> TaskReport:
    return TaskReport(task=task, test_accuracy=0.5)


def done(job: Job) -> JobResult:
    return JobResult(reports=tuple(report(task) for task in job.tasks))


@dataclass
class ScriptedExecutor:
    """Answers each attempt of a job with the next entry of its script: an error, or None."""

    script: dict[tuple[int, int], list[Exception | None]] = field(default_factory=dict)
    num_slots: int = 2
    submitted: list[tuple[int, int]] = field(default_factory=list)
    avoided: list[str | None] = field(default_factory=list)
    most_out: int = 0
    _out: list[Job] = field(default_factory=list)

    def shortage(self):
        return "2 workers ask for 1 GPU"

    def dismiss(self, worker):
        pass

    def submit(self, job, *, avoid=None):
        self.submitted.append((job.first, job.last))
        self.avoided.append(avoid)
        self._out.append(job)
        self.most_out = max(self.most_out, len(self._out))

    def collect(self, timeout_s):
        if not self._out:
            return []
        job = self._out.pop(0)
        answers = self.script.get((job.first, job.last), [])
        error = answers.pop(0) if answers else None
        if error is not None:
            return [Attempt(job=job, worker="w", error=error)]
        return [Attempt(job=job, worker="w", result=done(job))]

    def stop(self, limit_s):
        pass

    def close(self):
        self._out.clear()


@dataclass
class Clock:
    """Time that moves only when somebody sleeps."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Recorder:
    """A watcher, display and tracker that writes down what it is told."""

    events: list[tuple[Any, ...]] = field(default_factory=list)

    def job_done(self, job, result):
        self.events.append(("done", job.first, job.last))

    def waiting(self, shortage, waited_s):
        self.events.append(("waiting", shortage, waited_s))

    def job_retried(self, job, worker, error, delay_s):
        self.events.append(("retried", job.first, job.last, delay_s))

    def job_failed(self, job, worker, error, num_attempts):
        self.events.append(("failed", job.first, job.last, num_attempts))

    def workers(self, num_busy, num_ready):
        pass

    def steps(self, job, steps):
        self.events.append(("steps", job.first, steps.done, steps.total))

    def failed(self, job, *, for_good):
        pass

    def count(self, num_done):
        pass

    def start(self, verb, num_total, num_done, unit="tasks", *, num_jobs=0):
        self.events.append(("start", verb, num_total, num_done))

    @contextmanager
    def doing(self, what):
        yield

    def on_result(self, job, result):
        self.events.append(("result", job.first, job.last))

    def message(self, text):
        self.events.append(("message", text))

    def stop(self):
        self.events.append(("stop",))

    @property
    def messages(self) -> str:
        return "\n".join(event[1] for event in self.events if event[0] == "message")


class Misbehaving:
    """A worker told by the tasks what to do; shared is a folder that counts attempts."""

    def __init__(self, shared: Path) -> None:
        self._folder = shared

    def run(self, job: Job) -> JobResult:
        attempts = self._folder / f"{job.first}"
        number = int(attempts.read_text()) + 1 if attempts.exists() else 1
        attempts.write_text(str(number))
        if job.first == 1 and number == 1:
            raise OSError("disk hiccup")
        if job.first == 2:
            raise TrainingError("the loss of task 2 is not finite")
        if job.first == 3 and number == 1:
            os._exit(9)
        return done(job)


class Slow(Misbehaving):
    """A worker that reports two steps and waits to be seen."""

    def run(self, job: Job) -> JobResult:
        self.on_steps(job, StepsDone(1, 4))
        time.sleep(0.1)
        self.on_steps(job, StepsDone(2, 4))
        time.sleep(2.5)
        return done(job)


class Unbuildable:
    """A worker whose making fails."""

    def __init__(self, shared: Any) -> None:
        raise ValueError("no such device")
