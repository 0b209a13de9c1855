"""Training without task identity: one stream, gone through in order, by one worker at a time."""

from core.errors import DamagedFileError
from core.stream.schedule import num_decisions
from orchestrator.execution.controller import Failure
from orchestrator.execution.jobs import Job
from orchestrator.runs.results import finished_log
from orchestrator.session import RunSession
from storage.decisions import score_rows
from storage.stream_state import read_position, restart_stream
from storage.verify import Findings

DECISIONS_PER_JOB = 10  # a visit of the paper's length, some seconds: how often progress is seen


def train_stream(session: RunSession, findings: Findings) -> tuple[int, tuple[Failure, ...]]:
    """Go through what is left of the stream; return how many masks it gave, and the failure."""
    run, display = session.run, session.display
    if _is_whole(session, findings):
        display.message(
            f"the stream has ended and its {len(findings.tasks)} masks are here; nothing to train"
        )
        return 0, ()
    total = num_decisions(run.config.run_spec())
    num_done = _num_done(session)
    jobs = [
        Job(first=first, last=min(first + DECISIONS_PER_JOB, total) - 1, kind="stream")
        for first in range(num_done - num_done % DECISIONS_PER_JOB, total, DECISIONS_PER_JOB)
    ]
    failures = session.work_in_order("following the stream", jobs, num_done=num_done, unit="decisions")
    rows = finished_log(run)
    return (len(score_rows(rows).homes) if rows else 0), failures


def _is_whole(session: RunSession, findings: Findings) -> bool:
    """Tell whether the stream has ended and all its masks are good; start it anew if they are not."""
    run = session.run
    try:
        rows = finished_log(run)
    except DamagedFileError as error:
        session.display.message(f"{error}; the stream starts again from its beginning")
        restart_stream(run.layout)
        return False
    if rows is None:
        return False
    missing = set(range(len(score_rows(rows).homes))) - findings.tasks
    if missing:
        session.display.message(
            f"{len(missing)} masks of the stream are missing; it starts again from its beginning, since "
            "each mask depends on the others"
        )
        restart_stream(run.layout)
    return not missing


def _num_done(session: RunSession) -> int:
    try:
        position = read_position(session.run.layout, session.run.fingerprint)
    except DamagedFileError:
        return 0  # the worker says so and starts anew
    return position.num_decisions if position else 0
