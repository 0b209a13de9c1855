"""MLflow: a view of the run folder, written by one background thread.

The run folder is the truth. Every operation here can be repeated without doubling
anything, so a store that is down is tried again while the run lasts, and what it missed
is sent by the next ``supsup run`` of the sweep: the spool is the run folder itself.
Training never waits for MLflow.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from filelock import FileLock

from core.errors import SupSupError
from orchestrator.jobs import TaskReport

RETRY_S = 5.0
FLUSH_S = 15.0  # at the end, wait this long after the last thing that worked
MAX_BATCH_METRICS = 1000
MAX_PARAM_CHARS = 6000
Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What an MLflow run is told at its start. created_s: Unix time of the run folder."""

    experiment: str
    name: str
    fingerprint: str
    created_s: float
    params: dict[str, Any]
    artifact_root: Path


@dataclass(frozen=True, kw_only=True)
class TrackedEnd:
    """What it is told at the end: metrics by step k, and files under artifact folders."""

    status: Status
    metrics: tuple[tuple[str, int, float], ...] = ()
    artifacts: tuple[tuple[Path, str | None], ...] = ()
    num_failed: int = 0


class Tracker(Protocol):
    """Takes what happens and returns at once; ``close`` waits, but not long."""

    def open(self, run: TrackedRun, known: Sequence[TaskReport]) -> None:
        """Begin, or go on with, the run; ``known`` tasks are sent where they are missing."""
        ...

    def tasks(self, reports: Sequence[TaskReport]) -> None:
        """Send newly trained tasks."""
        ...

    def close(self, end: TrackedEnd) -> bool:
        """End the run; tell whether everything was taken."""
        ...


class NullTracker:
    """``tracking.uri: null``."""

    def open(self, run: TrackedRun, known: Sequence[TaskReport]) -> None:
        """Do nothing."""

    def tasks(self, reports: Sequence[TaskReport]) -> None:
        """Do nothing."""

    def close(self, end: TrackedEnd) -> bool:
        """Have nothing left to send."""
        del end
        return True


@dataclass
class _Sent:
    """What the thread knows of MLflow's side."""

    client: Any = None
    run_id: str = ""
    steps: set[int] = field(default_factory=set)


class MlflowTracker:
    """Queues operations for one thread, which repeats each until it works or time is up."""

    def __init__(self, uri: str, warn: Callable[[str], None]) -> None:
        self._uri = uri
        self._warn = warn
        self._sent = _Sent()
        self._run: TrackedRun | None = None
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._last_success_s = time.monotonic()
        self._has_warned = False
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)

    def open(self, run: TrackedRun, known: Sequence[TaskReport]) -> None:
        """Queue finding or creating the run and sending ``known`` where missing."""
        self._run = run
        self._queue.put(lambda: self._open(run))
        self._queue.put(lambda: self._log_tasks(known))
        self._thread.start()

    def tasks(self, reports: Sequence[TaskReport]) -> None:
        """Queue per-task metrics, step = task index."""
        self._queue.put(lambda: self._log_tasks(reports))

    def close(self, end: TrackedEnd) -> bool:
        """Queue the end; wait while MLflow takes things, at most 15 s longer than it does."""
        self._queue.put(lambda: self._log_end(end))
        self._queue.put(None)
        self._last_success_s = time.monotonic()
        self._closing.set()
        while self._thread.is_alive() and time.monotonic() - self._last_success_s < FLUSH_S:
            self._thread.join(timeout=0.1)
        self._abandoned.set()
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (operation := self._queue.get()) is not None:
            while not self._succeeds(operation):
                self._closing.wait(RETRY_S)
                if self._abandoned.wait(1.0 if self._closing.is_set() else 0.0):
                    return

    def _succeeds(self, operation: Callable[[], None]) -> bool:
        try:
            operation()
        # A tracker's trouble is never the run's: any failure is told once and tried again.
        except Exception as error:
            if not self._has_warned:
                reason = " ".join(str(error).split())[:160]
                self._warn(f"MLflow at {self._uri} does not answer; training goes on ({reason})")
            self._has_warned = True
            return False
        self._last_success_s = time.monotonic()
        return True

    def _open(self, run: TrackedRun) -> None:
        client = self._sent.client = self._sent.client or _connect(self._uri)
        experiment_id = _experiment_id(client, run, is_local=self._uri.startswith("sqlite"))
        tag = f"tags.`supsup.fingerprint` = '{run.fingerprint}' and tags.`supsup.kind` = 'sweep'"
        query = f"{tag} and tags.`mlflow.runName` = '{run.name}'"
        found = client.search_runs([experiment_id], query, max_results=1)
        run_id = found[0].info.run_id if found else _create_run(client, experiment_id, run)
        client.update_run(run_id, status="RUNNING")
        _log_params(client, run_id, run)
        self._sent.run_id = run_id
        self._sent.steps = {m.step for m in client.get_metric_history(run_id, "task/test_accuracy")}

    def _log_tasks(self, reports: Sequence[TaskReport]) -> None:
        from mlflow.entities import Metric

        new = [report for report in reports if report.task not in self._sent.steps]
        metrics = [
            Metric(f"task/{key}", getattr(report, key), int(report.finished_s * 1000), report.task)
            for report in new
            for key in ("test_accuracy", "train_loss", "train_seconds", "density")
        ]
        for batch in _batches(metrics, MAX_BATCH_METRICS):
            self._sent.client.log_batch(self._sent.run_id, metrics=batch)
        self._sent.steps.update(report.task for report in new)

    def _log_end(self, end: TrackedEnd) -> None:
        from mlflow.entities import Metric

        assert self._run is not None
        client, run_id, now = self._sent.client, self._sent.run_id, int(self._run.created_s * 1000)
        metrics = [Metric(key, value, now, step) for key, step, value in end.metrics]
        for batch in _batches(metrics, MAX_BATCH_METRICS):
            client.log_batch(run_id, metrics=batch)
        for path, folder in end.artifacts:
            client.log_artifact(run_id, str(path), folder)
        client.set_tag(run_id, "supsup.num_failed", str(end.num_failed))
        client.set_terminated(run_id, status=end.status)


def make_tracker(uri: str | None, warn: Callable[[str], None]) -> Tracker:
    """Return the tracker for ``tracking.uri``."""
    return NullTracker() if uri is None else MlflowTracker(absolute_uri(uri), warn)


def absolute_uri(uri: str) -> str:
    """Make a SQLite path absolute, so that it means the same from every folder."""
    if not uri.startswith("sqlite:///"):
        return uri
    return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).expanduser().absolute()}"


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of an absolute SQLite URI, None for any other URI."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _connect(uri: str) -> Any:
    """Import MLflow (seconds, so here and not at start-up) and return a client."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import logging

    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    database = sqlite_path(uri)
    if database is None:
        return MlflowClient(tracking_uri=uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that create the tables of a fresh database at once both fail.
    with FileLock(f"{database}.lock"):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def _experiment_id(client: Any, run: TrackedRun, *, is_local: bool) -> str:
    experiment = client.get_experiment_by_name(run.experiment)
    if experiment is None:
        place = run.artifact_root.absolute().as_uri() if is_local else None
        return str(client.create_experiment(run.experiment, artifact_location=place))
    if experiment.lifecycle_stage == "deleted":
        raise SupSupError(f"the experiment {run.experiment!r} was deleted in MLflow; restore it there")
    return str(experiment.experiment_id)


def _create_run(client: Any, experiment_id: str, run: TrackedRun) -> str:
    tags = {"supsup.kind": "sweep", "supsup.fingerprint": run.fingerprint}
    created = client.create_run(
        experiment_id, start_time=int(run.created_s * 1000), tags=tags, run_name=run.name
    )
    return str(created.info.run_id)


def _log_params(client: Any, run_id: str, run: TrackedRun) -> None:
    """Log the config once: a param cannot change, and num_tasks does when a run grows."""
    from mlflow.entities import Param, RunTag

    known = client.get_run(run_id).data.params
    params = [
        Param(key, str(value)[:MAX_PARAM_CHARS]) for key, value in run.params.items() if key not in known
    ]
    for batch in _batches(params, 100):
        client.log_batch(run_id, params=batch)
    num_tasks = str(run.params.get("benchmark.num_tasks"))
    client.log_batch(run_id, tags=[RunTag("supsup.num_tasks", num_tasks)])


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def flat_params(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flat_params(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def known_reports(facts: Iterable[dict[str, Any]], finished_s: dict[int, float]) -> list[TaskReport]:
    """Turn rows of ``MaskStore.facts`` into reports; ``finished_s`` by task."""
    keys = ("task", "test_accuracy", "train_loss", "train_seconds", "density")
    return [
        TaskReport(**{key: row[key] for key in keys}, finished_s=finished_s[row["task"]]) for row in facts
    ]


def experiment_id(uri: str, experiment: str) -> str | None:
    """Return the id of an experiment, None when there is no such."""
    found = _connect(uri).get_experiment_by_name(experiment)
    return None if found is None else str(found.experiment_id)
