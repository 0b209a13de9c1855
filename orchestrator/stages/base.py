"""What every kind of work has in common, as the controller sees it.

A stage reads all it knows from the run folder, so that every command gets the same answer to
"how far is this run?", and any process can go on with it. No torch here: workers have that.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from core.data.datasets import Dataset
from orchestrator.execution.jobs import Unit
from orchestrator.execution.plan import Plan
from orchestrator.runs.history import failed_tasks
from orchestrator.runs.results import Results
from orchestrator.runs.run import Run
from storage.mask_info import mask_info
from storage.run_file import RunRecord
from storage.verify import Findings, Problem


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run's training is.

    num_total: tasks, or in a stream decisions and, once it has ended, masks (``unit``).
    done: which of them, by number. failed: those that the last run gave up on, each with the reason.
    """

    num_total: int
    done: frozenset[int]
    failed: Mapping[int, str] = field(default_factory=dict)
    unit: Unit = "tasks"

    @property
    def num_done(self) -> int:
        """How many are done."""
        return len(self.done)

    @property
    def is_complete(self) -> bool:
        """Whether everything is trained; never while a stream goes on."""
        return self.unit != "decisions" and self.num_done >= self.num_total

    def __str__(self) -> str:
        return f"{self.num_done} of {self.num_total} {self.unit}"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What ``supsup verify`` finds beside bad files. problems: what is missing or cannot be used."""

    problems: tuple[Problem, ...] = ()
    summary: tuple[str, ...]
    advice: str | None = None
    is_whole: bool


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """A run that is being worked on: its folder is locked, its record is written.

    counts: by task, correct images of each test batch with the task given, as workers counted them.
    message: tells the user something.
    """

    run: Run
    record: RunRecord
    dataset: Dataset
    message: Callable[[str], None]
    counts: dict[int, tuple[int, ...]] = field(default_factory=dict)


class Stage(ABC):
    """One kind of work on a run.

    kind: of its jobs, which names the worker's half. verb: what the display shows. in_order: each job
    starts only after the one before it.
    """

    kind: str
    verb: str
    in_order: bool = False

    def prepare(self, context: RunContext) -> None:  # noqa: B027  # most stages need nothing
        """Make what the jobs need, such as a bank of masks; set aside what they cannot go on from."""

    @abstractmethod
    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """Return the jobs that are left. only: plan nothing but these tasks (or decisions)."""

    @abstractmethod
    def collect(self, context: RunContext) -> Results:
        """Merge what the jobs wrote, and return all that was measured, earlier runs included."""


class TrainingStage(Stage):
    """The stage that makes what a run is for, task after task.

    noun: what one stored result is called. has_masks: whether results are mask files.
    """

    verb = "training"
    in_order = True
    noun = "tasks"
    has_masks = True

    @abstractmethod
    def progress(self, run: Run, findings: Findings | None = None) -> Progress:
        """Return how far the run is. findings: of verifying all files; else their names and headers count."""

    def collect(self, context: RunContext) -> Results:
        """Return nothing: masks are measured by evaluation."""
        del context
        return Results()

    def accuracies(self, run: Run) -> dict[int, float]:
        """Return the stored test accuracies by task (in a stream by mask), the task given."""
        return {info.task: info.test_accuracy for info in mask_info(run.store)}

    def verify(self, run: Run, findings: Findings) -> Verification:
        """Return what is missing of a run whose files were verified, in words for people."""
        num_total = self.progress(run, findings).num_total
        missing = findings.missing(num_total)
        return Verification(
            problems=missing,
            summary=(f"{len(findings.tasks)} of {num_total} masks are good",),
            advice=f"`supsup run` of its sweep trains the {len(missing)} missing tasks" if missing else None,
            is_whole=not missing,
        )

    def describe(self, run: Run, cohort_size: int, findings: Findings | None) -> list[tuple[str, str]]:
        """Return (name, value) rows for ``supsup plan``. findings: None before the run exists."""
        del cohort_size
        progress = self.progress(run, findings)
        left = progress.num_total - progress.num_done
        return [("tasks", f"{progress.num_total}: {progress.num_done} done, {left} to train")]

    def homes(self, run: Run) -> tuple[int, ...] | None:
        """Return the true task of each mask, None where mask i is simply that of task i."""
        del run
        return None


def failed_left(run: Run, done: Collection[int]) -> dict[int, str]:
    """Return the tasks not done that the last run gave up on, each with the reason."""
    return {task: why for task, why in failed_tasks(run).items() if task not in done}
