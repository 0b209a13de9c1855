"""The MLflow run of a search, the parent of its runs."""

import json
import time
from collections.abc import Mapping
from math import nan
from typing import Any

from mlflow.entities import Metric, RunTag

from orchestrator.tracking.client import (
    KEYS_TAG,
    MAX_TAG_CHARS,
    METRIC_TAG,
    PATH_TAG,
    RANK_TAG,
    SEARCH_TAG,
    connect,
    experiment_id,
    find_runs,
    find_sweep,
    log_metrics,
    milliseconds,
)
from orchestrator.tracking.content import shortened
from orchestrator.tracking.messages import TrackedSearch
from orchestrator.tracking.views import save_views
from storage.locations import local_copy


def find_or_create_search(client: Any, experiment: str, name: str) -> str:
    """Return the id of a search's run, created if missing; of two created at once, the older wins."""
    found = find_search(client, experiment, name)
    if found is None:
        tags = {"supsup.kind": "search", SEARCH_TAG: name, **_sorting(client.get_experiment(experiment).name)}
        made = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        found = find_search(client, experiment, name)
        if found.info.run_id != made:
            client.delete_run(made)
    return str(found.info.run_id)


def find_search(client: Any, experiment: str, name: str) -> Any:
    """Return the run of a search in an experiment, by its id; None if there is none."""
    query = f"tags.`supsup.kind` = 'search' and tags.`{SEARCH_TAG}` = '{name}'"
    return next(find_runs(client, experiment, query), None)


def absent_points(uri: str, search: TrackedSearch) -> set[str]:
    """Return the fingerprints of the points whose runs the store does not have."""
    client = connect(uri)
    experiment = experiment_id(client, search.experiment, uri)
    return {one for one in search.points if find_sweep(client, experiment, one) is None}


def log_search(uri: str, search: TrackedSearch) -> None:
    """Log the results of a search to its run, replacing earlier ones, and put the runs of its points under it.

    A point's run may be older than the search. The space may change between two searches of the same
    name, so its values are tags, not params.
    """
    client = connect(uri)
    experiment = experiment_id(client, search.experiment, uri)
    run_id = find_or_create_search(client, experiment, search.name)
    found = client.get_run(run_id)
    now = milliseconds(time.time())
    best = {key: shortened(value) for key, value in search.metrics.items()}
    best |= {f"best/{key}": value for key, value in best.items()}
    new = [Metric(k, v, now, 0) for k, v in best.items() if shortened(found.data.metrics.get(k, nan)) != v]
    log_metrics(client, run_id, new)
    _set_tags(client, run_id, search.tags | _view_tags(search) | {"mlflow.note.content": search.note})
    for rank, fingerprint in enumerate(search.points, start=1):
        point = find_sweep(client, experiment, fingerprint)
        if point is not None:
            own = {"mlflow.parentRunId": run_id, SEARCH_TAG: search.name, RANK_TAG: _rank(rank)}
            _set_tags(client, point.info.run_id, own)
    for path in search.artifacts:
        with local_copy(path) as local:
            client.log_artifact(run_id, str(local))
    client.set_terminated(run_id, status=search.status)
    save_views(client, experiment)


def _view_tags(search: TrackedSearch) -> dict[str, str]:
    """Return what the view of a search is made from."""
    metric = {} if search.metric is None else {METRIC_TAG: search.metric}
    return {KEYS_TAG: json.dumps(search.keys), **_sorting(search.experiment), **metric}


def _sorting(experiment: str) -> dict[str, str]:
    """Return the tags that put a search before its points; the paths of runs begin with the same name."""
    return {PATH_TAG: experiment, RANK_TAG: _rank(0)}


def _rank(rank: int) -> str:
    return f"{rank:05d}"  # tags are sorted as words


def _set_tags(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    client.log_batch(run_id, tags=[RunTag(key, value[:MAX_TAG_CHARS]) for key, value in tags.items()])
