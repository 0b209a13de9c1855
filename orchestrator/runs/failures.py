"""``failures.json``: the tasks that failed in the last run, only while there are any."""

import json
from collections.abc import Sequence
from typing import Any

from orchestrator.execution.controller import Failure
from orchestrator.runs.run import Run
from storage.files import commit_json


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
        for what in ([{"decision": f.job.first}] if f.job.kind == "stream" else _each_task(f))
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
