"""The MLflow run of a search, the parent of its runs."""

import time
from typing import Any

from mlflow.entities import Metric, RunTag

from orchestrator.tracking.client import (
    MAX_TAG_CHARS,
    PATH_TAG,
    connect,
    experiment_id,
    find_runs,
    log_metrics,
    milliseconds,
)
from orchestrator.tracking.messages import TrackedSearch
from storage.locations import local_copy


def find_or_create_search(client: Any, experiment: str, name: str) -> str:
    """Return the id of a search's run, created if missing; of two created at once, the older wins."""
    found = find_search(client, experiment, name)
    if found is None:
        tags = {"supsup.kind": "search", "supsup.search": name, PATH_TAG: name}
        made = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        found = find_search(client, experiment, name)
        if found.info.run_id != made:
            client.delete_run(made)
    return str(found.info.run_id)


def find_search(client: Any, experiment: str, name: str) -> Any:
    """Return the run of a search in an experiment, by its id; None if there is none."""
    query = f"tags.`supsup.kind` = 'search' and tags.`supsup.search` = '{name}'"
    return next(find_runs(client, experiment, query), None)


def log_search(uri: str, search: TrackedSearch) -> None:
    """Log the results of a search to its run, replacing earlier ones.

    The space may change between two searches of the same name, so its values are tags, not params.
    """
    client = connect(uri)
    run_id = find_or_create_search(client, experiment_id(client, search.experiment, uri), search.name)
    found = client.get_run(run_id)
    now = milliseconds(time.time())
    best = {f"best/{key}": value for key, value in search.metrics.items()}
    new = [Metric(k, v, now, 0) for k, v in best.items() if found.data.metrics.get(k) != v]
    log_metrics(client, run_id, new)
    tags = search.tags | {"mlflow.note.content": search.note}
    client.log_batch(run_id, tags=[RunTag(key, value[:MAX_TAG_CHARS]) for key, value in tags.items()])
    for path in search.artifacts:
        with local_copy(path) as local:
            client.log_artifact(run_id, str(local))
    client.set_terminated(run_id, status=search.status)
