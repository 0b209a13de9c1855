"""The decision log read back: what was chosen, what belongs to whom, how allocation went."""

from typing import Any

from core.stream.allocation import AllocationScore, Choice, score_allocation
from orchestrator.runs.run import Run
from storage.decisions import read_decisions

Rows = list[dict[str, Any]]
MAX_CURVE_POINTS = 1000  # more make MLflow slow and a chart no clearer


def choices_of(rows: Rows) -> list[tuple[Choice, int]]:
    """Return (choice, true task) of each row."""
    keys = ("action", "mask", "num_masks", "num_candidates", "max_nu")
    return [(Choice(**{key: row[key] for key in keys}), row["true_task"]) for row in rows]


def score_rows(rows: Rows) -> AllocationScore:
    """Score the decisions of a log."""
    return score_allocation(choices_of(rows))


def finished_log(run: Run) -> Rows | None:
    """Return the log of a stream that has ended, None before that. Raises DamagedFileError."""
    rows, is_complete = read_decisions(run.layout, run.fingerprint)
    return rows if is_complete else None


def curves(rows: Rows) -> tuple[tuple[str, int, float], ...]:
    """Return (key, decision, value) for MLflow: masks allocated, and how sure the best one was."""
    found = []
    for row in rows[:: -(-len(rows) // MAX_CURVE_POINTS) or 1]:
        found.append(("stream/num_masks", row["decision"], float(row["num_masks"])))
        if row["max_nu"] is not None:
            confidence = row["max_nu"] * row["num_candidates"]
            found.append(("stream/confidence", row["decision"], confidence))
    return tuple(found)


def num_expected_masks(run: Run, num_tasks: int) -> int:
    """Return how many masks the run has when it is whole; 0 for a baseline, or a stream that has not ended."""
    if run.config.baseline is not None:
        return 0
    if run.config.training.is_given:
        return num_tasks
    rows = finished_log(run)
    return len(score_rows(rows).homes) if rows else 0
