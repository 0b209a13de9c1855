"""Training without task identity: one stream, gone through in order, by one worker at a time."""

from core.errors import DamagedFileError
from core.stream.schedule import num_decisions
from orchestrator.execution.controller import Failure
from orchestrator.execution.jobs import Job
from orchestrator.runs.run import Run
from orchestrator.session import Phases
from storage.decisions import Rows, read_decisions, score_rows
from storage.stream_state import read_position, restart_stream
from storage.verify import Verdict

DECISIONS_PER_JOB = 10  # a visit of the paper's length, some seconds: how often progress is seen


def train_stream(phases: Phases, verdict: Verdict) -> tuple[int, tuple[Failure, ...]]:
    """Go through what is left of the stream; return how many masks it gave, and the failure."""
    run, display = phases.run, phases.display
    if _is_whole(phases, verdict):
        display.message(f"the stream has ended and its {len(verdict.tasks)} masks are here; nothing to train")
        return 0, ()
    total = num_decisions(run.config.run_spec())
    num_done = _num_done(phases)
    jobs = [
        Job(first=first, last=min(first + DECISIONS_PER_JOB, total) - 1, kind="stream")
        for first in range(num_done - num_done % DECISIONS_PER_JOB, total, DECISIONS_PER_JOB)
    ]
    failures = phases.work_in_order("following the stream", jobs, num_done=num_done, unit="decisions")
    rows = finished_log(run)
    return (len(score_rows(rows).homes) if rows else 0), failures


def _is_whole(phases: Phases, verdict: Verdict) -> bool:
    """Tell whether the stream has ended and all its masks are good; start it anew if they are not."""
    run = phases.run
    try:
        rows = finished_log(run)
    except DamagedFileError as error:
        phases.display.message(f"{error}; the stream starts again from its beginning")
        restart_stream(run.layout)
        return False
    if rows is None:
        return False
    missing = set(range(len(score_rows(rows).homes))) - verdict.tasks
    if missing:
        phases.display.message(
            f"{len(missing)} masks of the stream are missing; it starts again from its beginning, since "
            "each mask depends on the others"
        )
        restart_stream(run.layout)
    return not missing


def _num_done(phases: Phases) -> int:
    try:
        position = read_position(phases.run.layout, phases.run.fingerprint)
    except DamagedFileError:
        return 0  # the worker says so and starts anew
    return position.num_decisions if position else 0


def finished_log(run: Run) -> Rows | None:
    """Return the log of a stream that has ended, None before that. Raises DamagedFileError."""
    rows, is_complete = read_decisions(run.layout, run.fingerprint)
    return rows if is_complete else None


def num_expected_masks(run: Run, num_tasks: int) -> int:
    """Return how many masks the run has when it is whole; 0 for a baseline, or a stream that has not ended."""
    if run.config.baseline is not None:
        return 0
    if run.config.training.is_given:
        return num_tasks
    rows = finished_log(run)
    return len(score_rows(rows).homes) if rows else 0
