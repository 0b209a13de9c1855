"""How far a run is, from its folder alone."""

import time
from dataclasses import dataclass

from core.errors import RunFolderError, first_line
from core.task_stream import num_decisions
from orchestrator.failures import read_failures
from orchestrator.run_folder import Run, open_run
from orchestrator.run_lock import is_locked, lock_holder
from orchestrator.stream_log import num_expected_masks
from storage.layout import RunLayout
from storage.places import AnyPath, listed, modified_s, to_place
from storage.stream_state import read_position

RATE_WINDOW_S = 600.0


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Counts of tasks (of decisions, while a stream goes on), and the pace of the last ten minutes.

    tasks_per_min, eta_s: None unless a controller is at work and something finished lately.
    mean_accuracy: over the tasks done, task given; None with none done. is_stream: whether a
    stream goes on.
    """

    run: Run
    num_tasks: int
    num_done: int
    num_failed: int
    holder: str | None
    tasks_per_min: float | None
    mean_accuracy: float | None
    is_stream: bool = False

    @property
    def unit(self) -> str:
        """What is counted, where it is not tasks."""
        return "" if self.run.config.training.is_given else " decisions" if self.is_stream else " masks"

    @property
    def num_left(self) -> int:
        """Tasks neither done nor failed."""
        return self.num_tasks - self.num_done - self.num_failed

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the present rate."""
        return 60 * self.num_left / self.tasks_per_min if self.tasks_per_min else None


def run_status(root: AnyPath) -> RunStatus:
    """Read a run folder's status. Raises RunFolderError."""
    run, record = open_run(root)
    num_tasks = num_expected_masks(run, record.num_tasks)
    if not num_tasks:
        return _stream_status(run)
    facts = run.store.facts()
    done = set(facts["task"].to_pylist())
    failed = {row["task"] for row in read_failures(run) if "task" in row} - done
    accuracies = facts["test_accuracy"].to_pylist()
    holder = lock_holder(run.layout) if is_locked(run.layout) else None
    rate = _tasks_per_min(run) if holder else None
    return RunStatus(
        run=run,
        num_tasks=num_tasks,
        num_done=len(done),
        num_failed=len(failed),
        holder=holder,
        tasks_per_min=rate,
        mean_accuracy=sum(accuracies) / len(accuracies) if accuracies else None,
    )


def _stream_status(run: Run) -> RunStatus:
    """Return the status of a stream that has not ended, in decisions; the masks come at its end."""
    position = read_position(run.layout, run.fingerprint)
    return RunStatus(
        run=run,
        num_tasks=num_decisions(run.config.run_spec()),
        num_done=position.num_decisions if position else 0,
        num_failed=0,
        holder=lock_holder(run.layout) if is_locked(run.layout) else None,
        tasks_per_min=None,
        mean_accuracy=None,
        is_stream=True,
    )


def find_runs(storage: str | AnyPath) -> list[AnyPath]:
    """List the run folders in a storage folder, by name."""
    return [path.parent for path in listed(to_place(storage), "*/run.json")]


def resolve_run(name: str, storage: str | AnyPath) -> AnyPath:
    """Return the folder that RUN means: a path, or a name under ``storage``. Raises RunFolderError."""
    places = [to_place(name)] + ([to_place(storage) / name] if "://" not in name else [])
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


def _tasks_per_min(run: Run) -> float | None:
    """Return the rate over the files of the last ten minutes, by when they were written."""
    places = run.store.locate()
    now = time.time()
    recent = [modified_s(path) for path in places.values()]
    recent = [written for written in recent if now - written < RATE_WINDOW_S]
    span_s = now - min(recent, default=now)
    return 60 * len(recent) / span_s if span_s > 1 else None
