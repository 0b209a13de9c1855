"""What every kind of work has in common, as the controller sees it.

A stage reads all it knows from the run folder, so that every command gets the same answer to
"how far is this run?", and any process can go on with it. No torch here: workers have that.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from core.data.datasets import Dataset
from orchestrator.execution.jobs import Unit
from orchestrator.execution.plan import Plan
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


def mask_accuracies(run: Run) -> dict[int, float]:
    """Return the test accuracy of each stored mask, by its number."""
    return {info.task: info.test_accuracy for info in mask_info(run.store)}


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


class Stage(Protocol):
    """One kind of work on a run.

    Its jobs name the worker's half by their ``kind``.
    """

    @property
    def verb(self) -> str:
        """What the display shows."""
        ...

    @property
    def in_order(self) -> bool:
        """Whether each job starts only after the one before it."""
        ...

    def prepare(self, context: RunContext) -> None:
        """Make what the jobs need, such as a bank of masks; set aside what they cannot go on from."""
        ...

    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """Return the jobs that are left. only: plan nothing but these tasks (or decisions)."""
        ...

    def collect(self, context: RunContext) -> Results:
        """Merge what the jobs wrote, and return all that was measured, earlier runs included."""
        ...


class TrainingStage(Stage, Protocol):
    """The stage that makes what a run is for.

    noun: what one stored result is called. has_masks: whether results are mask files.
    """

    noun: ClassVar[str]
    has_masks: ClassVar[bool]

    def progress(self, run: Run, findings: Findings | None = None) -> Progress:
        """Return how far the run is. findings: of verifying all files; else their names and headers count."""
        ...

    def accuracies(self, run: Run) -> dict[int, float]:
        """Return the stored test accuracies by task (in a stream by mask), the task given."""
        ...

    def verify(self, run: Run, findings: Findings) -> Verification:
        """Return what is missing of a run whose files were verified, in words for people."""
        ...

    def describe(self, run: Run, cohort_size: int, findings: Findings | None) -> list[tuple[str, str]]:
        """Return (name, value) rows for ``supsup plan``. findings: None before the run exists."""
        ...

    def homes(self, run: Run) -> tuple[int, ...] | None:
        """Return the true task of each mask, None where mask i is simply that of task i."""
        ...
