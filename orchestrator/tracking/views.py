"""Saved views of an experiment's runs (columns, filter, order) in MLflow's Views menu and by link.

MLflow stores a shared view as a tag of the experiment, in an undocumented format. Nothing here may
fail a run: if the format changes, our views are missing.

Widths are in pixels, for a window of 1440 x 900 whose right quarter is MLflow's assistant, which opens
by itself in a new browser: 430 are left for columns of ours.
"""

import base64
import contextlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from orchestrator.tracking.client import (
    KEYS_TAG,
    METRIC_TAG,
    RANK_TAG,
    SEARCH_TAG,
    find_runs,
    mlflow_version,
)
from orchestrator.tracking.description import write_description

KNOWN_VERSIONS = (Version("3.17"), Version("3.19"))  # from, below; tested in a browser
TAG = "mlflow.sharedViewState."
NAME, CREATED, DURATION = "attributes.`Run Name`", "runDateAndNestInfo", "duration"  # always shown
CHARACTER_WIDTH, MARGIN_WIDTH, MIN_WIDTH, MAX_WIDTH = 6.2, 20, 66, 134
TASK_COLUMNS = ("test_accuracy", "train_loss", "density", "mask_bytes", "train_seconds")


@dataclass(frozen=True, kw_only=True)
class View:
    """One saved view. columns: by MLflow's names, in this order. order_by: a column."""

    key: str
    name: str
    query: str
    columns: tuple[str, ...]
    order_by: str = "attributes.`Created`"
    ascending: bool = False


def _metrics(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"metrics.`{name}`" for name in names)


SWEEPS = View(
    key="supsup-sweeps",
    name="Sweep with its tasks",
    query="",
    columns=(*_metrics(TASK_COLUMNS), "tags.`supsup.num_tasks`"),
    order_by="tags.`supsup.path`",
    ascending=True,
)
WORST = View(
    key="supsup-worst",
    name="Tasks, worst first",
    query="tags.`supsup.kind` = 'task' and attributes.status = 'FINISHED'",
    columns=(*_metrics(TASK_COLUMNS), "tags.`supsup.sweep`"),
    order_by="metrics.`test_accuracy`",
    ascending=True,
)
FAILED_KEY = "supsup-failed"
FAILED_QUERY = "tags.`supsup.kind` = 'task' and attributes.status = 'FAILED'"
ERROR = "tags.`supsup.error`"
FIXED_WIDTHS = {NAME: 180, CREATED: 132, DURATION: 80, ERROR: 430}


def failed_view(num_failed: int) -> View:
    """Return the view of failed tasks, which is shown with their number, and only if there are any."""
    return View(
        key=FAILED_KEY,
        name=f"Failed tasks ({num_failed})",
        query=FAILED_QUERY,
        columns=(ERROR, "params.`seed`"),
    )


def runs_view(scenarios: Sequence[str]) -> View:
    """Return the view of all sweeps. scenarios: the metrics that they have of scenarios."""
    return View(
        key="supsup-runs",
        name="Runs, newest first",
        query="tags.`supsup.kind` = 'sweep'",
        columns=(*_metrics(scenarios or TASK_COLUMNS[:1]), "tags.`supsup.num_tasks`"),
    )


def search_view(search: str, keys: Sequence[str], scenarios: Sequence[str]) -> View:
    """Return the view of a search, its own run first, then its points, best first. keys: those varied."""
    first, others = scenarios[:1], scenarios[1:]
    return View(
        key=f"supsup-{search}",
        name=f"Search {search}, best first",
        query=f"tags.`{SEARCH_TAG}` = '{search}'",
        columns=(*_metrics(first), *(f"params.`{key}`" for key in keys), *_metrics(others)),
        order_by=f"tags.`{RANK_TAG}`",
        ascending=True,
    )


def experiment_views(client: Any, experiment: str) -> tuple[View, ...]:
    """Return the views that an experiment has something to show in, the best entry first."""
    above = list(find_runs(client, experiment, "tags.`supsup.kind` != 'task'"))
    sweeps = [one for one in above if one.data.tags["supsup.kind"] == "sweep"]
    searches = [_search_view(one, sweeps) for one in above if KEYS_TAG in one.data.tags]
    runs = [runs_view(_scenarios(sweeps))] if len(sweeps) > 1 else []
    num_failed = sum(1 for _ in find_runs(client, experiment, FAILED_QUERY))
    failed = [failed_view(num_failed)] if num_failed else []
    return (*searches, SWEEPS, WORST, *runs, *failed)


def _search_view(search: Any, sweeps: Sequence[Any]) -> View:
    tags = search.data.tags
    points = [one for one in sweeps if one.data.tags.get(SEARCH_TAG) == tags[SEARCH_TAG]]
    return search_view(
        tags[SEARCH_TAG], json.loads(tags[KEYS_TAG]), _scenarios(points, tags.get(METRIC_TAG, ""))
    )


def _scenarios(sweeps: Sequence[Any], first: str = "") -> list[str]:
    """Return what every finished sweep has been measured on: accuracies, then tasks found; ``first`` first."""
    names = [set(one.data.metrics) for one in sweeps if one.info.status == "FINISHED"]
    measured = [name for name in set.intersection(*names) if name.count("/") == 1] if names else []
    wanted = [f"/{word}" for word in ("accuracy", "task_inference_accuracy")]
    found = sorted(
        (wanted.index(f"/{name.split('/')[1]}"), name) for name in measured if name.endswith(tuple(wanted))
    )
    others = [name for _, name in found if name != first]
    return [first, *others] if first in measured else others


def save_views(client: Any, experiment: str) -> tuple[View, ...]:
    """Save our views where they are missing or old, and links to them in the experiment's description.

    Return them; none if this version of MLflow is not one that we know.
    """
    low, high = KNOWN_VERSIONS
    if not low <= Version(mlflow_version()) < high:
        return ()
    with contextlib.suppress(Exception):  # never fatal, see above
        found, views = client.get_experiment(experiment), experiment_views(client, experiment)
        for view in views:
            content = encode(view, found.creation_time or 0)
            if found.tags.get(TAG + view.key) != content:
                client.set_experiment_tag(experiment, TAG + view.key, content)
        if FAILED_KEY not in {view.key for view in views} and TAG + FAILED_KEY in found.tags:
            client.delete_experiment_tag(experiment, TAG + FAILED_KEY)
        write_description(client, found, {view.name: view.key for view in views})
        return views
    return ()


def encode(view: View, created_ms: int) -> str:
    """Return a view in MLflow's tag format."""
    order = [NAME, CREATED, *view.columns, DURATION]
    state = {
        "searchFilter": view.query,
        "orderByKey": view.order_by,
        "orderByAsc": view.ascending,
        "selectedColumns": list(view.columns),
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "columnOrder": order,
        "columnWidths": {column: _width(column) for column in order},
        "runsHiddenMode": "FIRST_10_RUNS",
        "runsExpanded": {},
        "groupBy": None,
        "groupsExpanded": {},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    content = {"name": view.name, "createdAt": created_ms, "updatedAt": created_ms}
    return json.dumps({**content, "state": f"deflate;{packed}"})


def _width(column: str) -> int:
    """Return a width that shows the name of a column whole."""
    if column in FIXED_WIDTHS:
        return FIXED_WIDTHS[column]
    width = round(CHARACTER_WIDTH * len(column.split("`")[1])) + MARGIN_WIDTH
    return min(max(width, MIN_WIDTH), MAX_WIDTH)
