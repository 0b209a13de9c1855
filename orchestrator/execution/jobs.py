"""What controller, executors and workers say to each other: small, frozen, picklable."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.specs.inference import HopfieldSpec, InferenceSpec
from core.specs.run import RunSpec
from core.specs.training import Engine
from storage.layout import RunLayout, TableKey
from storage.locations import Location
from storage.mask_store import StoreIdentity, TaskMask

Unit = Literal["tasks", "decisions", "masks"]  # what is counted


@dataclass(frozen=True, kw_only=True)
class InferenceRequest:
    """What is asked of task inference: one evaluation table.

    k: tasks to search, the first ones. num_batches: test batches of each task, None for all.
    bank: the bank file (``storage.bank_file``). homes: without task identity the task that each
    mask belongs to; then all masks are searched, and k counts the tasks that are asked about.
    """

    inference: InferenceSpec
    k: int
    num_batches: int | None
    bank: Path
    homes: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        """The way of inference, in the names of files and tables."""
        return self.inference.label

    @property
    def key(self) -> TableKey:
        """What names the files of the table."""
        return TableKey(self.label, self.k, self.num_batches)

    @property
    def num_masks(self) -> int:
        """Masks to search, the first ones."""
        return self.k if self.homes is None else len(self.homes)

    def own_masks(self, task: int) -> list[int]:
        """Return the masks that are a right answer for images of ``task``."""
        return [task] if self.homes is None else [m for m, home in enumerate(self.homes) if home == task]

    def __str__(self) -> str:
        return f"{self.label} at k = {self.k}"


@dataclass(frozen=True, kw_only=True)
class RecoveryRequest:
    """The masks of which tasks are recovered from a Hopfield memory: one evaluation table.

    k: tasks, the first ones, whose masks are in the memory. num_batches: scored batches of each
    task, None for all. memory: its file (``storage.hopfield_file``).
    """

    hopfield: HopfieldSpec
    k: int
    num_batches: int | None
    memory: Location

    @property
    def label(self) -> str:
        """The settings, in the names of files and tables."""
        return self.hopfield.label

    @property
    def key(self) -> TableKey:
        """What names the files of the tables."""
        return TableKey(self.label, self.k, self.num_batches)

    def __str__(self) -> str:
        return f"{self.label} at k = {self.k}"


Request = InferenceRequest | RecoveryRequest


@dataclass(frozen=True, kw_only=True)
class Job:
    """Contiguous tasks (of a stream, decisions) that one worker goes through as one unit.

    kind: which handler of the worker does it. request: the table that it is part of, if any.
    in_order: it goes on from what the job before it left.
    """

    first: int
    last: int
    kind: str = "train"
    request: Request | None = None
    unit: Unit = "tasks"
    in_order: bool = False

    @property
    def is_divisible(self) -> bool:
        """Whether its tasks may go on one by one after a failure."""
        return not self.in_order and self.first < self.last

    @property
    def numbers(self) -> range:
        """The tasks or decisions, ascending."""
        return range(self.first, self.last + 1)

    @property
    def tasks(self) -> range:
        """The tasks, ascending."""
        return self.numbers

    def __str__(self) -> str:
        if self.unit == "decisions":
            return f"decisions {self.first}-{self.last}"
        what = self.kind if self.request is None else f"{self.kind} {self.request},"
        if self.first == self.last:
            return f"{what} task {self.first}"
        return f"{what} tasks {self.first}-{self.last}"


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """All a worker must know; picklable and small.

    test_batches: of each task to evaluate, None for all. cohort_size: masks in a file of a stream.
    provenance: goes into each file. save_every_s: seconds of training between saves of a cohort.
    allows_code: the user's own network may be imported, which ``code_folder`` or an installed package has.
    """

    spec: RunSpec
    layout: RunLayout
    identity: StoreIdentity
    engine: Engine
    device: Literal["cpu", "cuda"]
    num_threads: int
    test_batches: int | None
    cohort_size: int
    provenance: dict[str, Any]
    save_every_s: float = 300.0
    allows_code: bool = False
    code_folder: str | None = None


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """What became of one trained task, as far as it is shown at once; the rest is in its file.

    test_accuracy: a fraction, the task given.
    """

    task: int
    test_accuracy: float


def task_reports(masks: Iterable[TaskMask]) -> tuple[TaskReport, ...]:
    """Return what is reported of masks that were just stored."""
    return tuple(TaskReport(task=mask.task, test_accuracy=mask.test_accuracy) for mask in masks)


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job gives: reports of trained tasks, and correct images a test batch by task.

    note: what the user should know of how it went, said once. network_digest: of the base network
    that the worker has in memory, hex.
    """

    reports: tuple[TaskReport, ...] = ()
    correct: tuple[tuple[int, tuple[int, ...]], ...] = ()
    note: str | None = None
    network_digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How one attempt of a job ended: with a result, or with an error."""

    job: Job
    worker: str
    result: JobResult | None = None
    error: Exception | None = None
