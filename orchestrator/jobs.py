"""What controller, executors and workers say to each other: small, frozen, picklable."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.specs import Engine, InferenceSpec, RunSpec
from storage.layout import RunLayout
from storage.mask_store import StoreIdentity


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of task inference: one evaluation table.

    k: tasks to search, the first ones. num_batches: test batches of each task, None for all.
    bank: the bank file (``storage.bank_file``).
    """

    inference: InferenceSpec
    k: int
    num_batches: int | None
    bank: Path

    def __str__(self) -> str:
        return f"{self.inference.label} at k = {self.k}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Contiguous tasks that one worker trains, evaluates or infers, as one unit.

    question: for ``infer`` only.
    """

    first: int
    last: int
    kind: Literal["train", "evaluate", "infer"] = "train"
    question: Question | None = None

    @property
    def tasks(self) -> range:
        """The tasks, ascending."""
        return range(self.first, self.last + 1)

    def __str__(self) -> str:
        what = self.kind if self.question is None else f"{self.kind} {self.question},"
        if self.first == self.last:
            return f"{what} task {self.first}"
        return f"{what} tasks {self.first}-{self.last}"


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """All a worker must know; picklable and small.

    test_batches: of each task to evaluate, None for all. provenance: goes into each file.
    """

    spec: RunSpec
    layout: RunLayout
    identity: StoreIdentity
    engine: Engine
    device: Literal["cpu", "cuda"]
    num_threads: int
    test_batches: int | None
    provenance: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """What became of one trained task; fractions in [0, 1], loss in nats, Unix time."""

    task: int
    test_accuracy: float
    train_loss: float
    train_seconds: float
    density: float
    finished_s: float


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job gives: reports of trained tasks, and correct images a test batch by task.

    note: what the user should know of how it went, said once.
    """

    reports: tuple[TaskReport, ...] = ()
    correct: tuple[tuple[int, tuple[int, ...]], ...] = ()
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one attempt of a job ended: with a result, or with an error."""

    job: Job
    worker: str
    result: JobResult | None = None
    error: Exception | None = None
