"""Displays of progress: a live view on a terminal, plain lines elsewhere, or messages only."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from core.errors import plural
from core.printing import printable
from orchestrator.execution.counts import Counts
from orchestrator.execution.jobs import Job, JobResult, StepsDone
from orchestrator.execution.progress import Display
from orchestrator.report.text import duration

PLAIN_INTERVAL_S = 2.0
PLAIN_STEPS_S = 5.0  # between lines while no task is done
SHORT_WAIT_S = 1.0  # not worth a line
REFRESHES_PER_S = 4
FAST = 10.0  # tasks a second
NUM_LAST = 4  # finished tasks whose accuracy is shown


def rate_words(rate: float) -> str:
    """Return tasks per second as a number a minute, of fast ones a second."""
    if rate > FAST:
        return f"{rate:,.0f}"
    return f"{60 * rate:,.0f}" if rate > 1 else f"{60 * rate:.1f}"


@dataclass
class Tally(Counts):
    """The counts of one phase, and their text."""

    _sum_accuracies: float = 0.0
    _num_accuracies: int = 0
    _last: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=NUM_LAST))

    def add(self, job: Job, result: JobResult) -> None:
        """Count a finished job."""
        super().add(job, result)
        for report in result.reports:
            self._sum_accuracies += report.test_accuracy
            self._num_accuracies += 1
            self._last.appendleft((report.task, report.test_accuracy))

    def steps(self) -> str:
        """Return the steps done in the jobs at work."""
        running = self.running
        if self.num_ready is not None and self.num_jobs and not (running or self._num_new):
            return f", {self.workers()}"
        return "" if running is None else f", {running.unit} {running.done:,} of {running.total:,}"

    def pace(self) -> list[str]:
        """Return rate and time left, once known."""
        speed = self.speed()
        if speed is None:
            return []
        rate, left_s = speed
        left = [] if self.num_done + self.num_failed >= self.num_total else [f"ETA {duration(left_s)}"]
        return [f"{rate_words(rate)} {self.unit}/{'s' if rate > FAST else 'min'}", *left]

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

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what is waited for, with the time that it has taken."""
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        with Progress(*columns, console=self._console, transient=True) as progress:
            progress.add_task(what)
            yield

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
        self._ended = threading.Event()

    def start(
        self, verb: str, num_total: int, num_done: int, unit: str = "tasks", *, num_jobs: int = 0
    ) -> None:
        """Print the first line of the phase; others follow, also from jobs that report no steps."""
        self.stop()
        self._verb, self._tally = verb, Tally(num_total, num_done, unit, num_jobs)
        self._line()
        self._ended = _repeat(self._show_steps)

    def stop(self) -> None:
        """Print no more lines."""
        self._ended.set()

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

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Print what is waited for, after a second and then every few seconds."""
        start_s = time.monotonic()
        ended = _repeat(lambda: self.message(f"{what}  {duration(time.monotonic() - start_s)}"))
        try:
            yield
        finally:
            ended.set()

    def _line(self) -> None:
        self._shown_s = time.monotonic()
        tally = self._tally
        self.message(f"{self._verb} {tally.counts()}  {tally.words()}".rstrip())


def _repeat(call: Callable[[], None]) -> threading.Event:
    """Call a function in a thread, after a second and then every few seconds, until the event is set."""
    ended = threading.Event()

    def work() -> None:
        wait_s = SHORT_WAIT_S
        while not ended.wait(wait_s):
            call()
            wait_s = PLAIN_STEPS_S

    threading.Thread(target=work, name="display", daemon=True).start()
    return ended


class MessagesOnly(PlainDisplay):
    """What a display leaves out if it shows messages only."""

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show nothing."""
        del what
        yield

    def _line(self) -> None:
        self._shown_s = time.monotonic()


def make_display(console: Console, *, plain: bool = False, quiet: bool = False) -> Display:
    """Return the live view on a terminal, else plain lines. plain: always lines. quiet: messages only."""
    if quiet:
        return MessagesOnly(console)
    return LiveDisplay(console) if console.is_terminal and not plain else PlainDisplay(console)
