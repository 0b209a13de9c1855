"""Estimates of time and bytes as rows of ``supsup plan``."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import plural
from orchestrator.report.text import byte_words, duration
from orchestrator.runs.estimate import Estimate, Range


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one run still has to train. rounds: tasks in a row on its busiest worker."""

    estimate: Estimate
    num_left: int
    rounds: int


def estimate_rows(works: Sequence[Work], num_workers: int, cohort_size: int) -> list[tuple[str, str]]:
    """Return (name, value) rows for the runs of one plan. cohort_size: tasks in training on a worker."""
    works = [work for work in works if work.num_left]
    if not works:
        return [("estimate", "nothing to train")]
    bases = list(dict.fromkeys(work.estimate.basis for work in works))
    more = f"; {len(bases) - 1} more" if len(bases) > 1 else ""
    return [
        ("time to train", f"{_time(works, num_workers)}\n({bases[0]}{more})"),
        ("bytes to store", _bytes(works)),
        ("while training", f"checkpoints of up to {_checkpoints(works, num_workers, cohort_size)}"),
    ]


def _time(works: Sequence[Work], num_workers: int) -> str:
    total = [0.0, 0.0]
    for work in works:
        if work.estimate.task_s is None:
            return "unknown"
        for end in (0, 1):
            total[end] += work.rounds * work.estimate.task_s[end]
    if len(works) > 1:  # points go side by side, each on one worker
        total = [seconds / min(num_workers, len(works)) for seconds in total]
    words = _between(*(_seconds(seconds) for seconds in total))
    return f"{words} on {plural(num_workers, 'worker')}, besides start-up and evaluation"


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return duration(seconds)


def _between(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _bytes(works: Sequence[Work]) -> str:
    num_left = sum(work.num_left for work in works)
    each: Range = (
        min(work.estimate.mask_bytes[0] for work in works),
        max(work.estimate.mask_bytes[1] for work in works),
    )
    whole = [sum(work.num_left * work.estimate.mask_bytes[end] for work in works) for end in (0, 1)]
    sizes = [_between(*map(byte_words, pair)) for pair in (whole, each)]
    masks = f"masks {sizes[0]} ({plural(num_left, 'task')}, {sizes[1]} each)"
    tables = [work.estimate.table_bytes for work in works]
    known = [size for size in tables if size is not None]
    words = f"tables {byte_words(sum(known))}" if len(known) == len(tables) else "tables: not measured yet"
    return f"{masks}; {words}; the report and MLflow besides"


def _checkpoints(works: Sequence[Work], num_workers: int, cohort_size: int) -> str:
    state = max(work.estimate.state_bytes for work in works)
    at_once = min(num_workers * cohort_size, sum(work.num_left for work in works))
    return f"{byte_words(at_once * state)}, removed at the end"
