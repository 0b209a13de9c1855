"""``sessions.json`` and ``failures.json``: the controller sessions and the failed tasks of a run."""

import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from core.errors import DamagedFileError
from orchestrator.execution.controller import Failure
from orchestrator.execution.jobs import Job
from orchestrator.runs.run import Run
from storage.files import commit_json
from storage.json_file import STRICT, read_json
from storage.layout import RunLayout, host_name

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class Session:
    """A controller session. Unix times in seconds. ended_s, status: None if it is running or was killed."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    started_s: float
    host: str
    ended_s: float | None = None
    status: Status | None = None


@dataclass(frozen=True, kw_only=True)
class _FailureRow:
    """A failed task, or decision of a stream. error: its message. kind: its type. failed_s: Unix time."""

    error: str
    kind: str
    task: int | None = None
    decision: int | None = None
    attempts: int = 1
    failed_s: float = 0.0


def read_sessions(layout: RunLayout) -> list[Session]:
    """Return the sessions of a run, oldest first; empty if the file is missing or unreadable."""
    try:
        return read_json(layout.sessions, list[Session])
    except (OSError, DamagedFileError):
        return []


def begin_session(layout: RunLayout) -> None:
    """Record the start of a session."""
    _write(layout, [*read_sessions(layout), Session(started_s=time.time(), host=host_name())])


def end_session(layout: RunLayout, status: Status) -> None:
    """Record the end of the last session."""
    *before, last = read_sessions(layout) or [Session(started_s=time.time(), host=host_name())]
    ended = Session(started_s=last.started_s, host=last.host, ended_s=time.time(), status=status)
    _write(layout, [*before, ended])


def _write(layout: RunLayout, sessions: list[Session]) -> None:
    commit_json(layout.sessions, [asdict(session) for session in sessions])


def write_failures(run: Run, failures: Sequence[Failure]) -> None:
    """Commit the failed tasks, or remove the file if there are none."""
    if not failures:
        run.layout.failures.unlink(missing_ok=True)
        return
    rows = [
        {
            **what,
            "error": str(f.error),
            "kind": type(f.error).__name__,
            "attempts": f.num_attempts,
            "failed_s": f.failed_s,
        }
        for f in failures
        for what in _numbers(f.job)
    ]
    commit_json(run.layout.failures, rows)


def drop_failures(run: Run, tasks: Collection[int]) -> None:
    """Remove the failures of some tasks."""
    rows = read_failures(run)
    left = [row for row in rows if row.get("task") not in tasks]
    if not left:
        run.layout.failures.unlink(missing_ok=True)
    elif len(left) < len(rows):
        commit_json(run.layout.failures, left)


def _numbers(job: Job) -> list[dict[str, int]]:
    if job.unit == "decisions":
        return [{"decision": job.first}]
    return [{"task": task} for task in job.tasks]


def reason(row: dict[str, Any]) -> str:
    """Return the first line of a failed task's error, or the error's type if it has no message."""
    return str(row["error"] or row["kind"]).splitlines()[0]


def read_failures(run: Run) -> list[dict[str, Any]]:
    """Return the failures of the last session.

    Keys: task (of a stream: decision), error, kind (its type), attempts, failed_s (Unix time).
    """
    if not run.layout.failures.exists():
        return []
    try:
        rows = read_json(run.layout.failures, list[_FailureRow])
    except DamagedFileError as error:
        raise DamagedFileError(f"{error}; remove it, the next run writes its own") from error
    return [{key: value for key, value in asdict(row).items() if value is not None} for row in rows]


def failed_tasks(run: Run) -> dict[int, str]:
    """Return the tasks that failed in the last session, with the first lines of their errors."""
    return {row["task"]: reason(row) for row in read_failures(run) if "task" in row}
