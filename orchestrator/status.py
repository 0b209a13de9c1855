"""How far a run is, from its folder alone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import RunFolderError, first_line
from core.stream.schedule import num_decisions
from orchestrator.runs.history import read_failures, reason
from orchestrator.runs.lock import is_locked, lock_holder
from orchestrator.runs.results import num_expected_masks
from orchestrator.runs.run import Run, open_run
from storage.checkpoints import num_learned
from storage.layout import RunLayout
from storage.locations import Location, listed, to_location
from storage.mask_info import MaskInfo, mask_info
from storage.stream_state import read_position

RATE_WINDOW_S = 600.0
NUM_LAST = 4


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Counts of tasks (of decisions, while a stream goes on), and the pace of the last ten minutes.

    tasks_per_min, eta_s: None unless a controller is at work and something finished lately.
    mean_accuracy: over the tasks done, task given; None with none done. last: (task, accuracy) of
    the tasks that ended last, the latest first. num_workers: that stored something lately. error: the
    first line of the first failure. is_stream: whether a stream goes on.
    """

    run: Run
    num_tasks: int
    num_done: int
    num_failed: int
    holder: str | None
    tasks_per_min: float | None
    mean_accuracy: float | None
    last: tuple[tuple[int, float], ...] = ()
    num_workers: int = 0
    error: str | None = None
    is_stream: bool = False

    @property
    def unit(self) -> str:
        """What is counted, where it is not tasks."""
        return "" if self.run.config.training.is_given else " decisions" if self.is_stream else " masks"

    @property
    def state(self) -> str:
        """Whether a controller is at work, and else how it stands."""
        if self.holder:
            return "running"
        return "finished" if self.num_done == self.num_tasks else "stopped"

    @property
    def num_left(self) -> int:
        """Tasks neither done nor failed."""
        return self.num_tasks - self.num_done - self.num_failed

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the present rate."""
        return 60 * self.num_left / self.tasks_per_min if self.tasks_per_min else None


def run_status(root: Location) -> RunStatus:
    """Read a run folder's status. Raises RunFolderError."""
    run, record = open_run(root)
    num_tasks = num_expected_masks(run, record.num_tasks)
    if run.config.baseline is not None:
        return _ordered_status(run, record.num_tasks, num_learned(run.layout))
    if not num_tasks:
        position = read_position(run.layout, run.fingerprint)
        num_done = position.num_decisions if position else 0
        return _ordered_status(run, num_decisions(run.config.run_spec()), num_done, is_stream=True)
    facts = mask_info(run.store)
    done = {one.task for one in facts}
    failures = [row for row in read_failures(run) if "task" in row and row["task"] not in done]
    holder = lock_holder(run.layout) if is_locked(run.layout) else None
    now_s = time.time()
    recent = [one for one in facts if now_s - one.finished_s < RATE_WINDOW_S]
    latest = sorted(facts, key=lambda one: (one.finished_s, one.task), reverse=True)[:NUM_LAST]
    return RunStatus(
        run=run,
        num_tasks=num_tasks,
        num_done=len(done),
        num_failed=len({row["task"] for row in failures}),
        holder=holder,
        tasks_per_min=_tasks_per_min(recent, now_s) if holder else None,
        mean_accuracy=sum(one.test_accuracy for one in facts) / len(facts) if facts else None,
        last=tuple((one.task, one.test_accuracy) for one in latest),
        num_workers=len({one.worker for one in recent}),
        error=reason(failures[0]) if failures else None,
    )


def _ordered_status(run: Run, num_tasks: int, num_done: int, *, is_stream: bool = False) -> RunStatus:
    """Return the status of a baseline, or of a stream that has not ended, which counts decisions."""
    return RunStatus(
        run=run,
        num_tasks=num_tasks,
        num_done=num_done,
        num_failed=0,
        holder=lock_holder(run.layout) if is_locked(run.layout) else None,
        tasks_per_min=None,
        mean_accuracy=None,
        is_stream=is_stream,
    )


def find_runs(storage: str | Location) -> list[Location]:
    """List the run folders in a storage folder, by name."""
    return [path.parent for path in listed(to_location(storage), "*/run.json")]


def resolve_run(name: str, storage: str | Location) -> Location:
    """Return the folder that RUN means: a path, or a name under ``storage``. Raises RunFolderError."""
    places = [to_location(name)] + ([to_location(storage) / name] if "://" not in name else [])
    try:
        for root in places:
            if RunLayout(root).run_file.is_file():
                return root
    except OSError as error:
        raise RunFolderError(
            f"RUN {name!r}: the store does not answer ({first_line(error)[:200]})"
        ) from error
    known = ", ".join(path.name for path in find_runs(storage)) or "none"
    raise RunFolderError(
        f"RUN {name!r}: no run folder (with a run.json) at {' nor at '.join(map(str, places))}; "
        f"runs there: {known}"
    )


def _tasks_per_min(recent: Sequence[MaskInfo], now_s: float) -> float | None:
    """Return the rate since the first of the last ten minutes began."""
    span_s = now_s - min((one.started_s for one in recent), default=now_s)
    return 60 * len(recent) / span_s if span_s > 1 else None
