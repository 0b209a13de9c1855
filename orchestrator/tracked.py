"""What a tracker is told of a run, and where its store is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from storage.places import AnyPath

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What an MLflow run is told at its start. created_s: Unix time of the run folder."""

    experiment: str
    name: str
    fingerprint: str
    created_s: float
    params: dict[str, Any]
    artifact_root: Path
    task_runs: Literal["all", "failed", "none"]


@dataclass(frozen=True, kw_only=True)
class TrackedEnd:
    """What it is told at the end.

    metrics: (key, k, value). artifacts: files, each with its artifact folder. failed: tasks
    with the reason.
    """

    status: Status
    metrics: tuple[tuple[str, int, float], ...] = ()
    artifacts: tuple[tuple[AnyPath, str | None], ...] = ()
    failed: tuple[tuple[int, str], ...] = ()


def absolute_uri(uri: str) -> str:
    """Make a SQLite path absolute, so that it means the same from every folder."""
    if not uri.startswith("sqlite:///"):
        return uri
    return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).expanduser().absolute()}"


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of an absolute SQLite URI, None for any other URI."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
