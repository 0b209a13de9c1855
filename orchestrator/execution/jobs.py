"""The messages between controller, executors and workers: small, frozen, picklable."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.specs.inference import HopfieldSpec, InferenceSpec
from core.specs.run import RunSpec
from core.specs.training import Engine
from storage.layout import RunLayout, TableKey
from storage.locations import Location
from storage.mask_store import StoreIdentity, TaskMask
from storage.parts import PartsOf

Unit = Literal["tasks", "decisions", "masks"]  # what progress counts


@dataclass(frozen=True, kw_only=True)
class InferenceRequest:
    """A request for one evaluation table of task inference.

    k: the first k tasks are searched, but for those ``forgotten``. num_batches: test batches of each task, None for all.
    bank: the bank file (``storage.bank_file``). masks: joint digest of those searched. homes: without task identity, the task that each
    mask belongs to; all masks are then searched, and k is the number of tasks evaluated.
    """

    inference: InferenceSpec
    k: int
    num_batches: int | None
    bank: Path
    masks: str
    homes: tuple[int, ...] | None = None
    forgotten: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """The inference method, as in the names of files and tables."""
        return self.inference.label

    @property
    def key(self) -> TableKey:
        """The key of the table's files."""
        return TableKey(self.label, self.k, self.num_batches)

    @property
    def num_masks(self) -> int:
        """How many masks are searched, from the first."""
        return len(self.searched) if self.homes is None else len(self.homes)

    @property
    def searched(self) -> tuple[int, ...]:
        """The task of each mask in the bank, as far as it is searched; without task identity, the masks' own numbers."""
        if self.homes is not None:
            return tuple(range(len(self.homes)))
        return tuple(task for task in range(self.k) if task not in self.forgotten)

    def own_masks(self, task: int) -> list[int]:
        """Return the masks, by their place in the bank, that are correct answers for images of ``task``."""
        owners = self.searched if self.homes is None else self.homes
        return [mask for mask, owner in enumerate(owners) if owner == task]

    def __str__(self) -> str:
        return f"{self.label} at k = {self.k}"


@dataclass(frozen=True, kw_only=True)
class RecoveryRequest:
    """A request for one evaluation table of masks recovered from a Hopfield memory.

    k: the masks of the first k tasks are in the memory. num_batches: scored batches of each task,
    None for all. memory: the memory's file (``storage.hopfield_file``). masks: joint digest of those in it.
    """

    hopfield: HopfieldSpec
    k: int
    num_batches: int | None
    memory: Location
    masks: str

    @property
    def label(self) -> str:
        """The recovery settings, as in the names of files and tables."""
        return self.hopfield.label

    @property
    def key(self) -> TableKey:
        """The key of the table's files."""
        return TableKey(self.label, self.k, self.num_batches)

    def __str__(self) -> str:
        return f"{self.label} at k = {self.k}"


Request = InferenceRequest | RecoveryRequest


def parts_of(request: Request, layout: RunLayout, fingerprint: str) -> PartsOf:
    """Return the parts of a request's table in a run folder."""
    forgotten = request.forgotten if isinstance(request, InferenceRequest) else ()
    return PartsOf(layout, fingerprint, request.key, request.masks, forgotten)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Contiguous tasks (of a stream: decisions) that one worker runs as a unit.

    kind: the handler that runs it. request: the table that it contributes to, if any.
    in_order: it continues from the state that the previous job left. files: names of the mask files that
    hold its tasks' masks, for work on stored masks, so that no worker has to list the folder.
    """

    first: int
    last: int
    kind: str = "train"
    request: Request | None = None
    unit: Unit = "tasks"
    in_order: bool = False
    files: tuple[str, ...] = ()

    @property
    def is_divisible(self) -> bool:
        """Whether its tasks can be retried one by one after a failure."""
        return not self.in_order and self.first < self.last

    @property
    def tasks(self) -> range:
        """The tasks or decisions, ascending."""
        return range(self.first, self.last + 1)

    def __str__(self) -> str:
        if self.unit == "decisions":
            return f"decisions {self.first}-{self.last}"
        what = self.kind if self.request is None else f"{self.kind} {self.request},"
        if self.first == self.last:
            return f"{what} task {self.first}"
        return f"{what} tasks {self.first}-{self.last}"


@dataclass(frozen=True)
class StepsDone:
    """How far a running job is, in training steps or another ``unit``."""

    done: int
    total: int
    unit: str = "step"

    @property
    def share(self) -> float:
        """The fraction of the job that is done."""
        return self.done / max(self.total, 1)


ReportSteps = Callable[[Job, StepsDone], None]
IsStopping = Callable[[], bool]


class JobStopped(KeyboardInterrupt):
    """Raised by a job that the user stopped, once it has saved where it stands."""


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """Everything a worker needs to know; picklable and small.

    test_batches: of each task to evaluate, None for all. cohort_size: tasks, or masks of a stream, per file.
    fitting: of devices whose memory ran out, by name, how many tasks fit.
    provenance: written into each file. save_every_s: seconds of training between checkpoints.
    code_digests: of the user's own code that workers may import, by its key in the sweep; from ``code_folder`` or an
        installed package.
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
    fitting: Mapping[str, int] = field(default_factory=dict)
    save_every_s: float = 15.0
    code_digests: Mapping[str, str] = field(default_factory=dict)
    code_folder: str | None = None


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """The part of a trained task's results that is displayed at once.

    test_accuracy: a fraction, task given. file: the name of its mask file, None without one.
    """

    task: int
    test_accuracy: float
    file: str | None = None


def task_reports(masks: Iterable[TaskMask], file: Location) -> tuple[TaskReport, ...]:
    """Return the reports of masks that were just stored in ``file``."""
    return tuple(
        TaskReport(task=mask.task, test_accuracy=mask.test_accuracy, file=file.name) for mask in masks
    )


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The result of a job.

    reports: of trained tasks. correct: (task, correct images in each test batch). note: for the user,
    shown once. network_digest: of the base network in the worker's memory, hex. fitting: a device's name and
    how many tasks fit, if its memory ran out.
    """

    reports: tuple[TaskReport, ...] = ()
    correct: tuple[tuple[int, tuple[int, ...]], ...] = ()
    note: str | None = None
    network_digest: str | None = None
    fitting: tuple[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How one attempt of a job ended: with a result, or with an error."""

    job: Job
    worker: str
    result: JobResult | None = None
    error: Exception | None = None
