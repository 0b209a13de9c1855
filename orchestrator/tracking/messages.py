"""What a tracker is told of a run, and where its store is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from orchestrator.config.sections import TaskRuns
from orchestrator.runs.history import Status
from storage.locations import Location


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What an MLflow run is told at its start. created_s: Unix time of the run folder.

    search: the name of the search that the run belongs to. dataset_digest: sha256 in hex, None
    where the run folder does not say.
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
    """A task that failed in the last run: when, and the first line of why."""

    task: int
    error: str
    failed_s: float


@dataclass(frozen=True, kw_only=True)
class TrackedEnd:
    """What it is told at the end.

    metrics: (key, k, value). artifacts: files, each with its artifact folder. masks_digest: of all
    masks, sha256 in hex, None with a mask missing. note: Markdown.
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
    """What the run above those of a search's settings is told. metrics: of the best setting."""

    experiment: str
    name: str
    tags: dict[str, str]
    metrics: dict[str, float]
    artifacts: tuple[Location, ...]
    note: str
    status: Status


def chosen_store(name: str, asked: str | None, configured: str | None) -> str:
    """Return the absolute URI of the store asked for, else of the run's own. Raises ConfigError.

    name: of the run. configured: its ``tracking.uri``.
    """
    uri = asked or configured
    if uri is None:
        raise ConfigError(f"{name}: found tracking.uri null, expected a store; name one with --uri")
    return absolute_uri(uri)


def absolute_uri(uri: str) -> str:
    """Make a SQLite path absolute, so that it means the same from every folder."""
    if not uri.startswith("sqlite:///"):
        return uri
    return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).expanduser().absolute()}"


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of an absolute SQLite URI, None for any other URI."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
