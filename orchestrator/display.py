"""What a person sees of a run: a live bar on a terminal, plain lines elsewhere."""

import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.jobs import Job, JobResult

PLAIN_INTERVAL_S = 2.0


class Display(Protocol):
    """Shows progress and messages."""

    def start(self, verb: str, num_total: int, num_done: int, unit: str = "tasks") -> None:
        """Begin a phase over ``num_total`` tasks (or ``unit``), ``num_done`` of which need nothing."""
        ...

    def advance(self, job: Job, result: JobResult) -> None:
        """Count the tasks of a finished job."""
        ...

    def message(self, text: str) -> None:
        """Say one thing, without breaking the bar."""
        ...

    def stop(self) -> None:
        """End the phase."""
        ...


class Tally:
    """Counts of one phase, and the words for them."""

    def __init__(self, num_total: int, num_done: int, unit: str = "tasks") -> None:
        self.num_total, self.num_done, self.unit = num_total, num_done, unit
        self._num_new, self._start_s = 0, time.monotonic()
        self._accuracies: list[float] = []

    def add(self, job: Job, result: JobResult) -> None:
        """Count a finished job."""
        self.num_done += len(job.tasks)
        self._num_new += len(job.tasks)
        self._accuracies += [report.test_accuracy for report in result.reports]

    def words(self) -> str:
        """Return rate, time left and mean accuracy, as far as they are known."""
        parts = []
        if self._num_new:
            elapsed_s = max(time.monotonic() - self._start_s, 1e-6)
            rate = self._num_new / elapsed_s
            parts.append(f"{60 * rate:.1f} {self.unit}/min")
            parts.append(f"ETA {duration((self.num_total - self.num_done) / rate)}")
        if self._accuracies:
            mean = sum(self._accuracies) / len(self._accuracies)
            parts.append(f"mean accuracy {100 * mean:.2f} %")
        return "  ".join(parts)


class LiveDisplay:
    """A rich progress bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._tally = Tally(0, 0)

    def start(self, verb: str, num_total: int, num_done: int, unit: str = "tasks") -> None:
        """Show the bar."""
        self._tally = Tally(num_total, num_done, unit)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}  {{task.fields[words]}}"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._progress.add_task(verb, total=num_total, completed=num_done, words="")
        self._progress.start()

    def advance(self, job: Job, result: JobResult) -> None:
        """Move the bar."""
        self._tally.add(job, result)
        if self._progress is not None:
            (task,) = self._progress.task_ids
            self._progress.update(task, completed=self._tally.num_done, words=self._tally.words())

    def message(self, text: str) -> None:
        """Print above the bar."""
        self._console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """Leave the bar as it is."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class PlainDisplay:
    """Lines for a file or a pipe, at most one every two seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tally = Tally(0, 0)
        self._verb, self._shown_s = "", 0.0

    def start(self, verb: str, num_total: int, num_done: int, unit: str = "tasks") -> None:
        """Say what begins."""
        self._verb, self._tally = verb, Tally(num_total, num_done, unit)
        self._line()

    def advance(self, job: Job, result: JobResult) -> None:
        """Say how far it is, unless it was said just now."""
        self._tally.add(job, result)
        is_last = self._tally.num_done >= self._tally.num_total
        if is_last or time.monotonic() - self._shown_s >= PLAIN_INTERVAL_S:
            self._line()

    def message(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Have nothing to take down."""

    def _line(self) -> None:
        self._shown_s = time.monotonic()
        tally = self._tally
        self.message(
            f"{self._verb} {tally.num_done}/{tally.num_total} {tally.unit}  {tally.words()}".rstrip()
        )


def make_display(console: Console) -> Display:
    """Return the live bar on a terminal, plain lines elsewhere."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


def duration(seconds: float) -> str:
    """Return h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
