"""``sessions.json``: when a controller worked in a run folder, and how each time ended."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orchestrator.execution.controller import Failure
from orchestrator.runs.run import Run
from storage.files import commit_json
from storage.layout import RunLayout, host_name

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One controller's work. Unix times in seconds; ended_s and status: None while it goes on, or was killed."""

    started_s: float
    host: str
    ended_s: float | None = None
    status: Status | None = None


def read_sessions(layout: RunLayout) -> list[Session]:
    """Return the sessions of a run, the oldest first; none where the file is absent or unreadable."""
    try:
        return [Session(**row) for row in json.loads(layout.sessions.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def begin_session(layout: RunLayout) -> None:
    """Note that a controller begins."""
    _write(layout, [*read_sessions(layout), Session(started_s=time.time(), host=host_name())])


def end_session(layout: RunLayout, status: Status) -> None:
    """Note how the last session ended."""
    *before, last = read_sessions(layout) or [Session(started_s=time.time(), host=host_name())]
    ended = Session(started_s=last.started_s, host=last.host, ended_s=time.time(), status=status)
    _write(layout, [*before, ended])


def _write(layout: RunLayout, sessions: list[Session]) -> None:
    commit_json(layout.sessions, [asdict(session) for session in sessions])


def write_failures(run: Run, failures: Sequence[Failure]) -> None:
    """Commit the tasks given up on, or remove the file when there are none."""
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
        for what in ([{"decision": f.job.first}] if f.job.unit == "decisions" else _each_task(f))
    ]
    commit_json(run.layout.failures, rows)


def _each_task(failure: Failure) -> list[dict[str, int]]:
    return [{"task": task} for task in failure.job.tasks]


def reason(row: dict[str, Any]) -> str:
    """Return the first line of why a task failed; of an error without words its kind."""
    return str(row["error"] or row["kind"]).splitlines()[0]


def read_failures(run: Run) -> list[dict[str, Any]]:
    """Return the tasks that failed in the last run.

    task (in a stream the decision), error, kind, attempts, and failed_s, Unix time.
    """
    if not run.layout.failures.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(run.layout.failures.read_text())
    return rows


def failed_tasks(run: Run) -> dict[int, str]:
    """Return the tasks that failed in the last run, each with the first line of the reason."""
    return {row["task"]: reason(row) for row in read_failures(run) if "task" in row}
