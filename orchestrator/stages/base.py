"""The interface of all kinds of work, as the controller sees it.

A stage keeps no state outside the run folder, so every command reports the same progress and any
process can resume the run. No torch here: only workers need it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from core.data.datasets import Dataset
from core.errors import plural
from orchestrator.execution.jobs import Unit
from orchestrator.execution.plan import Plan, number_ranges
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.forgotten import not_gone, tombstone_lines
from orchestrator.runs.history import failed_tasks
from orchestrator.runs.results import Results
from orchestrator.runs.run import Run
from storage.layout import TableKey
from storage.mask_facts import MaskFacts
from storage.mask_files import MaskFiles
from storage.run_file import RunRecord
from storage.verify import Findings, Problem

EVALUATION_FAILED = "its evaluation failed"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The training progress of a run.

    num_total: number of tasks, without the forgotten ones; in a stream, of decisions or, once it has ended, masks
    (``unit``). done: their numbers. failed: those that the last run gave up on, with the reason. forgotten: tasks that
    are never trained again.
    """

    num_total: int
    done: frozenset[int]
    failed: Mapping[int, str] = field(default_factory=dict)
    unit: Unit = "tasks"
    forgotten: frozenset[int] = frozenset()

    @property
    def wanted(self) -> tuple[int, ...]:
        """The numbers of all that is to be done, ascending."""
        numbers = range(self.num_total + len(self.forgotten))
        return tuple(number for number in numbers if number not in self.forgotten)

    @property
    def left(self) -> frozenset[int]:
        """The numbers of what is not done."""
        return frozenset(self.wanted) - self.done

    @property
    def num_done(self) -> int:
        """Number of finished tasks, decisions or masks."""
        return len(self.done)

    @property
    def is_complete(self) -> bool:
        """Whether all training is done; False until a stream has ended."""
        return self.unit != "decisions" and self.num_done >= self.num_total

    def __str__(self) -> str:
        return f"{self.num_done:,} of {plural(self.num_total, self.unit.removesuffix('s'))}"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Findings of ``supsup verify`` besides bad files. problems: missing or unusable files."""

    problems: tuple[Problem, ...] = ()
    summary: tuple[str, ...]
    advice: str | None = None
    is_whole: bool


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """A run in progress: its folder is locked, its record is written.

    facts: of the masks stored when the stage began, or for ``collect`` when its jobs ended.
    counts: by task, correct images in each test batch with the task given, as reported by workers.
    message: shows a line to the user.
    """

    run: Run
    record: RunRecord
    dataset: Dataset
    message: Callable[[str], None]
    facts: MaskFacts
    counts: dict[int, tuple[int, ...]] = field(default_factory=dict)


class Stage(ABC):
    """One kind of work on a run.

    kind: of its jobs; selects the worker's handler. verb: shown on the display. in_order: each job
    starts only after the previous one.
    """

    kind: str
    verb: str
    in_order: bool = False

    def prepare(self, context: RunContext) -> frozenset[TableKey]:
        """Create what the jobs need, such as a mask bank; set aside state they cannot resume from.

        Return the existing tables, which need no measurement.
        """
        del context
        return frozenset()

    @abstractmethod
    def plan(self, context: RunContext, only: Collection[int] | None = None) -> Plan:
        """Return the remaining jobs. only: restrict the plan to these tasks (or decisions)."""

    @abstractmethod
    def collect(self, context: RunContext) -> Results:
        """Merge the jobs' output; return all results, including those of earlier runs."""


class TrainingStage(Stage):
    """A stage that trains.

    noun: name of a stored unit, for messages. has_masks: whether they are mask files. tie: why its tasks depend
    on each other, as text; None where each could be trained alone.
    """

    verb = "training"
    in_order = True
    noun = "task"
    has_masks = True
    tie: str | None = None

    @abstractmethod
    def progress(
        self, run: Run, findings: Findings | None = None, *, files: MaskFiles | None = None
    ) -> Progress:
        """Return the run's progress, by verified files if ``findings`` is given, else by names and headers.

        files: the names, where they are known; None lists them, if they are needed.
        """

    def collect(self, context: RunContext) -> Results:
        """Return no results: evaluation measures masks."""
        del context
        return Results()

    def accuracies(self, run: Run) -> dict[int, float]:
        """Return the stored test accuracies with the task given, by task (in a stream by mask)."""
        table = run.store.facts().table
        return dict(zip(table["task"].to_pylist(), table["test_accuracy"].to_pylist(), strict=True))

    def verify(self, run: Run, findings: Findings) -> Verification:
        """Describe, for people, what a run with verified files is missing."""
        progress = self.progress(run, findings)
        missing = findings.missing(progress.wanted)
        lines, problems = tombstone_lines(run, progress.forgotten)
        problems += not_gone(run, findings.facts.files)
        return Verification(
            problems=(*missing, *problems),
            summary=(good_masks(len(findings.tasks), progress.num_total), *lines),
            advice=f"`{supsup_command('run', run.layout.root, config=run.config)}` trains the "
            f"{plural(len(missing), 'missing task')}"
            if missing
            else None,
            is_whole=not missing and not problems,
        )

    def why_not(self, run: Run, files: MaskFiles, scenario: str, k: int) -> str:
        """Return why a scenario is not evaluated on the first ``k`` tasks, as text."""
        del scenario
        words = trained_tasks(self.progress(run, files=files).num_done)
        if k > run.config.benchmark.num_tasks:
            return words
        missing = set(files.among(k)) - files.keys()
        if not files.among(k):
            return f"all of its tasks were forgotten: {number_ranges(range(k))}"
        return f"{words}, {missing_masks(missing, 'task')}" if missing else EVALUATION_FAILED

    def describe(self, run: Run, cohort_size: int, findings: Findings | None) -> list[tuple[str, str]]:
        """Return (name, value) rows for ``supsup plan``; ``findings`` is None before the run exists."""
        del cohort_size
        progress = self.progress(run, findings)
        left = progress.num_total - progress.num_done
        return [("tasks", f"{progress.num_total}: {progress.num_done} done, {left} to train")]

    def homes(self, run: Run) -> tuple[int, ...] | None:
        """Return the true task of each mask, or None if mask i belongs to task i."""
        del run
        return None


def stored_tasks(run: Run, findings: Findings | None, files: MaskFiles | None) -> frozenset[int]:
    """Return the tasks with a mask, as for ``TrainingStage.progress``."""
    if findings is not None:
        return findings.tasks
    return frozenset(run.store.locate() if files is None else files)


def good_masks(num_good: int, num_total: int) -> str:
    """Return how many masks verify, as text."""
    return f"{num_good:,} of {plural(num_total, 'mask')} {'is' if num_total == 1 else 'are'} good"


def trained_tasks(num_tasks: int) -> str:
    """Return how many tasks are trained, as text."""
    return f"{plural(num_tasks, 'task')} {'is' if num_tasks == 1 else 'are'} trained"


def missing_masks(numbers: Collection[int], noun: str) -> str:
    """Return which masks are missing, as text. noun: what is numbered, task or mask."""
    of = "" if noun == "mask" else "the mask of " if len(numbers) == 1 else "the masks of "
    is_one = len(numbers) == 1
    return f"{of}{noun}{'' if is_one else 's'} {number_ranges(numbers)} {'is' if is_one else 'are'} missing"


def failed_left(run: Run, done: Collection[int]) -> dict[int, str]:
    """Return the unfinished tasks that the last run gave up on, with the reason."""
    return {task: why for task, why in failed_tasks(run).items() if task not in done}
