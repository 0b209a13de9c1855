"""MLflow's client, configured to stay quiet; experiments and runs by name."""

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

# Before importing mlflow: no telemetry, and requests to a dead server fail soon.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # of PostgreSQL, which else waits for ever
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow import __version__ as installed_version
from mlflow.entities import Metric, Param

from core.errors import SupSupError
from orchestrator.config.store_uri import sqlite_path
from orchestrator.tracking.database import open_database

T = TypeVar("T")

MAX_BATCH_METRICS = 1000
MAX_BATCH_PARAMS = 100
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 5000
MAX_PAGE_RUNS = 1000
PATH_TAG = "supsup.path"  # sorts our view: each sweep, then its tasks
SEARCH_TAG = "supsup.search"  # of a search and of its points: its name
RANK_TAG = "supsup.rank"  # sorts the view of a search: itself, then its points, the best first
KEYS_TAG = "supsup.search_keys"  # of a search: the keys that it varies, as JSON
METRIC_TAG = "supsup.search_metric"  # of a search: what ranks its points


def connect(uri: str) -> Any:
    """Return a client of the store at ``uri`` (absolute); create a SQLite file if it is missing."""
    for name in ("mlflow", "alembic"):  # what they log as errors, with stack traces, they raise too
        logging.getLogger(name).setLevel(logging.CRITICAL)
    database = sqlite_path(uri)
    if database is None:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    return open_database(database)


def mlflow_version() -> str:
    """Return the version of MLflow."""
    return str(installed_version)


def experiment_id(client: Any, name: str, uri: str) -> str:
    """Return the id of an experiment, created if it is missing. Raises SupSupError.

    Artifacts are stored beside a SQLite file; a server chooses their location itself.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        database = sqlite_path(uri)
        location = None if database is None else (database.parent / "mlflow-artifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage == "deleted":
        raise SupSupError(f"the experiment {name!r} was deleted in MLflow; restore it there")
    return str(found.experiment_id)


def find_runs(client: Any, experiment: str, query: str) -> Iterator[Any]:
    """Yield all runs that match a query, oldest first."""
    token = None
    while True:
        order = ["attributes.start_time ASC"]
        page = client.search_runs(
            [experiment], query, max_results=MAX_PAGE_RUNS, order_by=order, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def find_sweep(client: Any, experiment: str, fingerprint: str) -> Any:
    """Return the run of a run folder, or None; by its tags, since names are not unique."""
    query = f"tags.`supsup.fingerprint` = '{fingerprint}' and tags.`supsup.kind` = 'sweep'"
    return next(find_runs(client, experiment, query), None)


def log_metrics(client: Any, run_id: str, metrics: Sequence[Metric]) -> None:
    """Log metrics of a run in batches of the size that MLflow accepts."""
    for batch in _batches(metrics, MAX_BATCH_METRICS):
        client.log_batch(run_id, metrics=batch)


def log_new_params(client: Any, run_id: str, params: dict[str, Any]) -> None:
    """Log the params that the run does not have; existing ones cannot change."""
    known = client.get_run(run_id).data.params
    new = [Param(key, str(value)[:MAX_PARAM_CHARS]) for key, value in params.items() if key not in known]
    for batch in _batches(new, MAX_BATCH_PARAMS):
        client.log_batch(run_id, params=batch)


def milliseconds(unix_s: float) -> int:
    """Convert Unix seconds to MLflow's milliseconds."""
    return int(unix_s * 1000)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
