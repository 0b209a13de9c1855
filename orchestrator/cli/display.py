"""Displays of progress: a live view on a terminal, plain lines elsewhere, or messages only."""

import time
from collections import deque
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from core.errors import plural
from core.printing import printable
from orchestrator.execution.jobs import Job, JobResult, StepsDone
from orchestrator.execution.progress import Display
from orchestrator.report.text import duration

PLAIN_INTERVAL_S = 2.0
PLAIN_STEPS_S = 5.0  # between lines while no task is done
REFRESHES_PER_S = 4
MIN_WORK = 0.05  # tasks, for a pace: the first steps compile
NUM_LAST = 4  # finished tasks whose accuracy is shown


@dataclass
class Tally:
    """The counts of one phase, and their text."""

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
    _sum_accuracies: float = 0.0
    _num_accuracies: int = 0
    _last: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=NUM_LAST))
    _running: dict[Job, StepsDone] = field(default_factory=dict)
    _first_share: dict[Job, float] = field(default_factory=dict)  # done when first seen: a job may be resumed

    def add(self, job: Job, result: JobResult) -> None:
        """Count a finished job."""
        self._running.pop(job, None)
        self.count(len(job.tasks))
        for report in result.reports:
            self._sum_accuracies += report.test_accuracy
            self._num_accuracies += 1
            self._last.appendleft((report.task, report.test_accuracy))

    def count(self, num_done: int) -> None:
        """Count tasks done."""
        self.num_done += num_done
        self._num_new += num_done
        self._last_s = time.monotonic()

    def set_steps(self, job: Job, steps: StepsDone) -> None:
        """Set how far a running job is."""
        self._first_share.setdefault(job, steps.share)
        self._running[job] = steps

    def steps(self) -> str:
        """Return the steps done in the jobs at work."""
        if self.num_ready is not None and self.num_jobs and not (self._running or self._num_new):
            return f", {self.workers()}"
        if not self._running:
            return ""
        done, total = (sum(getattr(one, key) for one in self._running.values()) for key in ("done", "total"))
        return f", step {done:,} of {total:,}"

    def _under_way(self, *, new: bool = False) -> float:
        """Return the tasks' worth of steps in running jobs; new: without what they resumed from."""
        return sum(
            (steps.share - (self._first_share[job] if new else 0.0)) * len(job.tasks)
            for job, steps in self._running.items()
        )

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

    def pace(self) -> list[str]:
        """Return rate and time left, once known."""
        num_new = self._num_new + self._under_way(new=True)
        if num_new < MIN_WORK:
            return []
        now_s = time.monotonic()
        until_s = now_s if self._running else self._last_s
        since_s = self.start_s if self.work_s is None else self.work_s
        rate = num_new / max(until_s - since_s, 1e-6)
        left_s = max(0, self.num_total - self.num_done - self.num_failed - self._under_way()) / rate
        left_s -= now_s - until_s  # jobs that report no steps have progressed since
        per_min = f"{60 * rate:,.0f}" if rate > 1 else f"{60 * rate:.1f}"
        return [f"{per_min} {self.unit}/min", f"ETA {duration(max(0.0, left_s))}"]

    def accuracy(self) -> list[str]:
        """Return the mean accuracy of the tasks trained in this phase."""
        if not self._num_accuracies:
            return []
        return [f"mean accuracy {100 * self._sum_accuracies / self._num_accuracies:.2f} %"]

    def failures(self) -> list[str]:
        """Return the numbers of failed tasks and of retries."""
        retried = [f"{self.num_retried} tried again"] if self.num_retried else []
        return [f"{self.num_failed} failed", *retried] if self.num_failed or retried else []

    def counts(self) -> str:
        """Return how much is done: 3/10 tasks, step 412 of 1,000."""
        return f"{self.num_done:,}/{plural(self.num_total, self.unit.removesuffix('s'))}{self.steps()}"

    def words(self) -> str:
        """Return the text of a plain line."""
        pace = self.pace() or ([duration(self.elapsed_s)] if self.elapsed_s >= 1 else [])
        return "  ".join([*pace, *self.accuracy(), *self.failures()])

    def workers(self) -> str:
        """Return how many workers are busy."""
        if not self.num_jobs:
            return ""
        return (
            f"{self.num_busy} of {plural(self.num_ready, 'worker')} busy"
            if self.num_ready
            else "waiting for workers"
        )

    def last(self) -> str:
        """Return the accuracies of the tasks that finished last."""
        words = ", ".join(f"task {task} {100 * accuracy:.2f} %" for task, accuracy in self._last)
        return f"finished last: {words}" if words else ""


class _Counting(Display):
    """The counts of a phase, common to all displays."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._verb, self._tally = "", Tally()

    def on_result(self, job: Job, result: JobResult) -> None:
        """Count a finished job."""
        self._tally.add(job, result)
        self._show_count()

    def count(self, num_done: int) -> None:
        """Count tasks done without a job."""
        self._tally.count(num_done)
        self._show_count()

    def steps(self, job: Job, steps: StepsDone) -> None:
        """Show how far a running job is."""
        self._tally.set_steps(job, steps)
        self._show_steps()

    def failed(self, job: Job, *, for_good: bool) -> None:
        """Count a failure; its message comes separately."""
        self._tally.fail(job, for_good=for_good)

    def workers(self, num_busy: int, num_ready: int) -> None:
        """Store the numbers of workers until the next refresh."""
        self._tally.set_workers(num_busy, num_ready)

    def _show_count(self) -> None:
        """Show a new count, unless a refresh does."""

    def _show_steps(self) -> None:
        """Show new steps, unless a refresh does."""


class LiveDisplay(_Counting):
    """A view of a few lines, refreshed four times a second."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live: Live | None = None

    def start(
        self, verb: str, num_total: int, num_done: int, unit: str = "tasks", *, num_jobs: int = 0
    ) -> None:
        """Show the view."""
        self.stop()
        self._verb, self._tally = verb, Tally(num_total, num_done, unit, num_jobs)
        self._live = Live(self, console=self._console, refresh_per_second=REFRESHES_PER_S)
        self._live.start(refresh=True)

    def message(self, text: str) -> None:
        """Print above the view."""
        self._console.print(printable(text), markup=False, highlight=False)

    def stop(self) -> None:
        """Leave the view as it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the view."""
        del console, options
        tally = self._tally
        yield _bar(self._verb, tally)
        lines = (
            Text("  ".join([*tally.pace()[:1], tally.workers()])),
            Text("  ".join(tally.failures()), style="red" if tally.num_failed else "yellow"),
            Text("  ".join([*tally.accuracy(), tally.last()])),
        )
        for line in lines:
            if line.plain.strip():
                line.no_wrap, line.overflow = True, "ellipsis"
                yield Text("  ") + line


def _bar(verb: str, tally: Tally) -> Table:
    """Return one line over the whole width: verb, progress bar, counts, elapsed and remaining time."""
    left = "  ".join(tally.pace()[1:])
    columns = [Column(no_wrap=True), Column(ratio=1), *(Column(no_wrap=True) for _ in range(3))]
    table = Table.grid(*columns, padding=(0, 1), expand=True)
    bar = ProgressBar(total=max(tally.num_total, 1), completed=tally.num_done)
    table.add_row(
        Text(verb, style="bold"),
        bar,
        tally.counts(),
        duration(tally.elapsed_s),
        left,
    )
    return table


class PlainDisplay(_Counting):
    """Lines for a file or a pipe, at most one every two seconds."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._shown_s = 0.0

    def start(
        self, verb: str, num_total: int, num_done: int, unit: str = "tasks", *, num_jobs: int = 0
    ) -> None:
        """Print the first line of the phase."""
        self._verb, self._tally = verb, Tally(num_total, num_done, unit, num_jobs)
        self._line()

    def message(self, text: str) -> None:
        """Print a line."""
        self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def _show_count(self) -> None:
        """Print a line, unless the last one is too recent."""
        is_last = self._tally.num_done >= self._tally.num_total
        if is_last or time.monotonic() - self._shown_s >= PLAIN_INTERVAL_S:
            self._line()

    def workers(self, num_busy: int, num_ready: int) -> None:
        """Store the numbers of workers; show that time passes."""
        super().workers(num_busy, num_ready)
        self._show_steps()

    def _show_steps(self) -> None:
        """Print a line, unless the last one is too recent."""
        if time.monotonic() - self._shown_s >= PLAIN_STEPS_S:
            self._line()

    def _line(self) -> None:
        self._shown_s = time.monotonic()
        tally = self._tally
        self.message(f"{self._verb} {tally.counts()}  {tally.words()}".rstrip())


class QuietDisplay(PlainDisplay):
    """Messages only."""

    def _line(self) -> None:
        self._shown_s = time.monotonic()


def make_display(console: Console, *, plain: bool = False, quiet: bool = False) -> Display:
    """Return the live view on a terminal, else plain lines. plain: always lines. quiet: messages only."""
    if quiet:
        return QuietDisplay(console)
    return LiveDisplay(console) if console.is_terminal and not plain else PlainDisplay(console)
