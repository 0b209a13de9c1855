"""The progress of runs, from their folders alone."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from core.errors import DamagedFileError, RunFolderError, first_line
from orchestrator.runs.history import read_failures
from orchestrator.runs.live import LiveProgress, read_live
from orchestrator.runs.lock import is_locked, lock_holder
from orchestrator.runs.results import Results, read_results
from orchestrator.runs.run import Run, open_run
from orchestrator.runs.search_file import is_search, one_point_words
from orchestrator.stages import training_stage
from orchestrator.stages.base import Progress
from storage.arrow import number_column, numbers
from storage.layout import RunLayout
from storage.locations import Location, listed, to_location

RATE_WINDOW_S = 600.0
NUM_LAST = 4


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The progress of a run, and its rate over the last ten minutes.

    progress: in tasks; of a stream, in decisions and then masks. holder: the controller at work, if
    any. tasks_per_min, eta_s: None unless a controller is at work and a task finished recently.
    live: of the controller at work. mean_accuracy: of finished tasks, task given; None if there are none. last: (task, accuracy) of
    the tasks that finished last, latest first. num_workers: workers that stored masks recently.
    """

    run: Run = field(repr=False)
    progress: Progress
    holder: str | None
    tasks_per_min: float | None
    mean_accuracy: float | None
    last: tuple[tuple[int, float], ...] = ()
    num_workers: int = 0
    live: LiveProgress | None = None

    @property
    def num_failed(self) -> int:
        """How many tasks (or decisions) failed in the last session."""
        return len(self.progress.failed)

    @property
    def error(self) -> str | None:
        """The first line of the first failure, None if there is none."""
        return next(iter(self.progress.failed.values()), None)

    @property
    def state(self) -> str:
        """``running``, ``finished`` or ``stopped``."""
        if self.holder:
            return "running"
        return "finished" if self.progress.is_complete else "stopped"

    @property
    def num_left(self) -> int:
        """How many tasks are neither done nor failed."""
        return self.progress.num_total - self.progress.num_done - self.num_failed

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the current rate, by the controller at work if it says so."""
        if self.live is not None:
            return self.live.left_s
        return 60 * self.num_left / self.tasks_per_min if self.tasks_per_min else None


def run_status(root: Location) -> RunStatus:
    """Return the status of a run folder. Raises RunFolderError."""
    return status_of(open_run(root)[0])


def status_of(run: Run) -> RunStatus:
    """Return the status of an existing run, of the tasks that its config asks for."""
    facts = run.store.facts()
    run.store.keep_facts(facts)
    infos = facts.table
    if run.config.training.is_given:
        infos = infos.slice(0, int(np.searchsorted(numbers(infos["task"]), run.config.benchmark.num_tasks)))
    holder = lock_holder(run.layout) if is_locked(run.layout) else None
    live = read_live(run.layout) if holder else None
    now_s = time.time()
    finished_s = numbers(infos["finished_s"])
    recent = infos.take(number_column(np.flatnonzero(now_s - finished_s < RATE_WINDOW_S)))
    order = np.lexsort((numbers(infos["task"]), finished_s))
    latest = infos.take(number_column(order[: -NUM_LAST - 1 : -1]))
    accuracies = infos["test_accuracy"].to_pylist()
    return RunStatus(
        run=run,
        progress=training_stage(run.config).progress(run, files=facts.files),
        holder=holder,
        tasks_per_min=live.per_min if live else _tasks_per_min(recent, now_s) if holder else None,
        live=live,
        mean_accuracy=sum(accuracies) / len(accuracies) if accuracies else None,
        last=tuple(zip(latest["task"].to_pylist(), latest["test_accuracy"].to_pylist(), strict=True)),
        num_workers=len(recent["worker"].unique()),
    )


def complete_results(run: Run) -> Results | None:
    """Return the results that the run's sweep asks for, None if anything is left to do."""
    if not run.layout.run_file.exists() or read_failures(run):
        return None
    try:
        facts = run.store.facts()
        is_trained = training_stage(run.config).progress(run, files=facts.files).is_complete
    except (DamagedFileError, RunFolderError):
        return None
    return read_results(run, facts).asked(run) if is_trained else None


def find_runs(storage: str | Location) -> list[Location]:
    """Return the run folders in a storage folder, sorted by name."""
    return [path.parent for path in listed(to_location(storage), "*/run.json")]


def resolve_run(name: str, storage: str | Location) -> Location:
    """Return the run folder that ``name`` means: a path, or a name under ``storage``.

    Raises RunFolderError; of a search, with the runs to choose from.
    """
    roots = _places(name, storage)
    found = _first(roots, name, lambda root: RunLayout(root).run_file.is_file())
    if found is not None:
        return found
    searched = resolve_search(name, storage)
    if searched is not None:
        raise RunFolderError(one_point_words(searched))
    known = ", ".join(path.name for path in find_runs(storage)) or "none"
    raise RunFolderError(
        f"RUN {name!r}: no run folder (with a run.json) at {' nor at '.join(map(str, roots))}; "
        f"runs there: {known}"
    )


def resolve_search(name: str, storage: str | Location) -> Location | None:
    """Return the folder of the search that ``name`` means, as ``resolve_run``; None if it is none."""
    return _first(_places(name, storage), name, is_search)


def _places(name: str, storage: str | Location) -> list[Location]:
    return [to_location(name)] + ([to_location(storage) / name] if "://" not in name else [])


def _first(roots: Sequence[Location], name: str, is_it: Callable[[Location], bool]) -> Location | None:
    """Return the first of the locations that is it, None if none is. Raises RunFolderError."""
    try:
        return next((root for root in roots if is_it(root)), None)
    except OSError as error:
        raise RunFolderError(
            f"RUN {name!r}: the store does not answer ({first_line(error)[:200]})"
        ) from error


def _tasks_per_min(recent: pa.Table, now_s: float) -> float | None:
    """Return the rate since the first of the recent tasks (``MaskFacts.table``) began."""
    span_s = now_s - min(recent["started_s"].to_pylist(), default=now_s)
    return 60 * len(recent) / span_s if span_s > 1 else None
