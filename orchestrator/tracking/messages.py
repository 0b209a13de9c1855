"""The data of a run that is sent to trackers."""

from dataclasses import dataclass
from typing import Any

from orchestrator.config.sections import TaskRuns
from orchestrator.runs.history import Status
from storage.locations import Location


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """The data of a run at its start. created_s: Unix time of the run folder.

    dataset_digest: sha256 in hex, None if the run folder does not have it. search: the name of the
    search that the run belongs to.
    """

    experiment: str
    name: str
    fingerprint: str
    created_s: float
    params: dict[str, Any]
    tags: dict[str, str]
    task_runs: TaskRuns
    dataset: str
    dataset_digest: str | None = None
    search: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrackedTask:
    """A trained task: metrics by short name, tags, and Unix times in seconds."""

    task: int
    metrics: dict[str, float]
    tags: dict[str, str]
    started_s: float
    finished_s: float


@dataclass(frozen=True, kw_only=True)
class FailedTask:
    """A task that failed in the last session. error: its first line. failed_s: Unix time."""

    task: int
    error: str
    failed_s: float


@dataclass(frozen=True, kw_only=True)
class TrackedEnd:
    """The data of a run at its end. ended_s: Unix time.

    metrics: (key, k, value). artifacts: files with their artifact folders. masks_digest: of all
    masks, sha256 in hex, None if a mask is missing. note: Markdown.
    """

    status: Status
    ended_s: float
    metrics: tuple[tuple[str, int, float], ...] = ()
    artifacts: tuple[tuple[Location, str | None], ...] = ()
    failed: tuple[FailedTask, ...] = ()
    masks_digest: str | None = None
    num_masks: int = 0
    masks_folder: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TrackedSearch:
    """The data of a search, the parent of its runs. metrics: of the best setting.

    keys: those varied, dotted. metric: what ranks the points. points: fingerprints of their runs, the
    best first.
    """

    experiment: str
    name: str
    keys: tuple[str, ...]
    metric: str | None
    points: tuple[str, ...]
    tags: dict[str, str]
    metrics: dict[str, float]
    artifacts: tuple[Location, ...]
    note: str
    status: Status
