"""Saved views of an experiment's runs (columns, filter, order) in MLflow's Views menu and by link.

MLflow stores a shared view as a tag of the experiment, in an undocumented format. Nothing here may
fail a run: if the format changes, our views are missing.
"""

import base64
import contextlib
import json
import zlib
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from orchestrator.tracking.client import mlflow_version

KNOWN_VERSIONS = (Version("3.17"), Version("3.18"))  # from, below; tested in a browser
TAG = "mlflow.sharedViewState."


@dataclass(frozen=True, kw_only=True)
class View:
    """One saved view. columns: by MLflow's names. order_by: a column; by default the start time."""

    key: str
    name: str
    query: str
    columns: tuple[str, ...]
    order_by: str = "attributes.`Created`"
    ascending: bool = False


def _metrics(*names: str) -> tuple[str, ...]:
    return tuple(f"metrics.`{name}`" for name in names)


SWEEPS = View(
    key="supsup-sweeps",
    name="Sweep with its tasks",
    query="",
    columns=(
        "attributes.`Duration`",
        "tags.`supsup.num_tasks`",
        *_metrics("GG/accuracy", "GNu/accuracy", "GNu/task_inference_accuracy"),
        *_metrics("test_accuracy", "density", "mask_bytes", "train_seconds"),
    ),
    order_by="tags.`supsup.path`",
    ascending=True,
)
WORST = View(
    key="supsup-worst",
    name="Tasks, worst first",
    query="tags.`supsup.kind` = 'task' and attributes.status = 'FINISHED'",
    columns=(
        "params.`task`",
        "tags.`supsup.sweep`",
        *_metrics("test_accuracy", "train_loss", "density", "mask_bytes", "train_seconds"),
    ),
    order_by="metrics.`test_accuracy`",
    ascending=True,
)
FAILED = View(
    key="supsup-failed",
    name="Failed tasks",
    query="tags.`supsup.kind` = 'task' and attributes.status = 'FAILED'",
    columns=("params.`task`", "params.`seed`", "tags.`supsup.error`"),
)
VIEWS = (SWEEPS, WORST, FAILED)


def save_views(client: Any, experiment: str) -> bool:
    """Save our views if they are missing; return whether this version of MLflow supports them."""
    low, high = KNOWN_VERSIONS
    if not low <= Version(mlflow_version()) < high:
        return False
    with contextlib.suppress(Exception):  # never fatal, see above
        found = client.get_experiment(experiment)
        for view in VIEWS:
            content = encode(view, found.creation_time or 0)
            if found.tags.get(TAG + view.key) != content:
                client.set_experiment_tag(experiment, TAG + view.key, content)
        return True
    return False


def encode(view: View, created_ms: int) -> str:
    """Return a view in MLflow's tag format."""
    state = {
        "searchFilter": view.query,
        "orderByKey": view.order_by,
        "orderByAsc": view.ascending,
        "selectedColumns": list(view.columns),
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "runsExpanded": {},
        "groupBy": None,
        "groupsExpanded": {},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    content = {"name": view.name, "createdAt": created_ms, "updatedAt": created_ms}
    return json.dumps({**content, "state": f"deflate;{packed}"})
