"""Forwards the controller's events to the display, the trackers and the logs of jobs."""

import re
import time
import traceback
from dataclasses import dataclass, field

from core.errors import first_line, plural
from orchestrator.execution.jobs import Job, JobResult, StepsDone
from orchestrator.execution.plan import number_ranges
from orchestrator.execution.progress import Display
from orchestrator.runs.live import LiveFile
from orchestrator.runs.record import remember_fitting
from orchestrator.tracking.tracker import Trackers
from storage.files import commit_text
from storage.layout import RunLayout


@dataclass
class RunWatcher:
    """The ``orchestrator.execution.controller.Watcher`` of one stage.

    correct: filled with the correct images in each test batch, by task. live: for other processes. Of equal errors only the first is
    shown at once; ``end`` reports the number of repeats.
    """

    display: Display
    trackers: Trackers
    layout: RunLayout
    correct: dict[int, tuple[int, ...]]
    live: LiveFile
    num_trained: int = 0
    _shown: set[str] = field(default_factory=set)
    _repeats: dict[tuple[str, str], list[Job]] = field(default_factory=dict)
    _logs: dict[Job, str] = field(default_factory=dict)

    def job_done(self, job: Job, result: JobResult) -> None:
        """Count, show and track a finished job; complete its log if there were failed attempts."""
        self.num_trained += len(result.reports)
        if result.note is not None:
            self._show_once(result.note)
        if result.fitting is not None:
            remember_fitting(self.layout, *result.fitting)
        self.correct.update(result.correct)
        self.trackers.tasks(dict.fromkeys(report.file for report in result.reports if report.file))
        self.display.on_result(job, result)
        self.live.counts.add(job, result)
        self.live.update()
        if job in self._logs:
            self._log(job, "done\n")

    def job_retried(self, job: Job, worker: str, error: Exception, delay_s: float) -> None:
        """Log the failed attempt and show it, once for equal errors."""
        self._log_error(job, worker, error)
        self.display.failed(job, for_good=False)
        self.live.counts.fail(job, for_good=False)
        again = f"trying again in {delay_s:.1f} s" if delay_s else "trying each task on its own"
        self._show_first(job, "tried again", f"failed, {again}", error)

    def job_failed(self, job: Job, worker: str, error: Exception, num_attempts: int) -> None:
        """Log the failed attempt and show it, once for equal errors."""
        self._log_error(job, worker, error)
        self.display.failed(job, for_good=True)
        self.live.counts.fail(job, for_good=True)
        self._show_first(job, "given up", f"failed after {plural(num_attempts, 'attempt')}", error)

    def workers(self, num_busy: int, num_ready: int) -> None:
        """Show how many workers are busy."""
        self.display.workers(num_busy, num_ready)
        self.live.counts.set_workers(num_busy, num_ready)
        self.live.update()

    def steps(self, job: Job, steps: StepsDone) -> None:
        """Show how far a running job is."""
        self.display.steps(job, steps)
        self.live.counts.set_steps(job, steps)
        self.live.update()

    def waiting(self, shortage: str, waited_s: float) -> None:
        """Show that there is no worker, and why."""
        minutes = waited_s / 60
        self.display.message(f"no worker for {minutes:.0f} min, waiting: {shortage}")

    def end(self) -> None:
        """Show how often errors repeated."""
        for (fate, key), jobs in self._repeats.items():
            what = f"{len(jobs)} more {fate} with the same error ({task_list(jobs)})"
            self.display.message(f"{what}: {key}")
        self._repeats.clear()

    def _show_once(self, text: str) -> None:
        if text not in self._shown:
            self._shown.add(text)
            self.display.message(text)

    def _show_first(self, job: Job, fate: str, what: str, error: Exception) -> None:
        key = error_key(error)
        if f"{fate}: {key}" in self._shown:
            self._repeats.setdefault((fate, key), []).append(job)
            return
        self._shown.add(f"{fate}: {key}")
        self.display.message(f"{job} {what}: {first_line(error)}")

    def _log_error(self, job: Job, worker: str, error: Exception) -> None:
        self._log(job, f"failed on {worker}\n" + "".join(traceback.format_exception(error)))

    def _log(self, job: Job, text: str) -> None:
        """Append to the job's log, which is rewritten as a whole."""
        when = time.strftime("%Y-%m-%d %H:%M:%S%z")
        self._logs[job] = f"{self._logs.get(job, '')}{when} {job}: {text}\n"
        commit_text(self.layout.log(job.kind, job.first, job.last), self._logs[job])


def error_key(error: Exception) -> str:
    """Return the error's first line with the numbers of tasks and workers replaced by N."""
    return re.sub(r"\b(tasks?|worker|decisions?)([ -])\d+(-\d+)?", r"\1\2N", first_line(error))


def task_list(jobs: list[Job]) -> str:
    """Return the tasks of jobs as ranges, such as ``tasks 0-3, 7``."""
    tasks = {task for job in jobs for task in job.tasks}
    what = "decisions" if jobs[0].unit == "decisions" else "tasks" if len(tasks) > 1 else "task"
    return f"{what} {number_ranges(tasks)}"
