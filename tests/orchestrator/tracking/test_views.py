"""Saved views of MLflow's pages: as MLflow unpacks them, for what an experiment has, and never fatal."""

import base64
import json
import zlib
from types import SimpleNamespace

import pytest

import orchestrator.tracking.views
from orchestrator.tracking.views import KNOWN_VERSIONS, SWEEPS, TAG, WORST, encode, save_views

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations

ROOM = 433  # pixels for our columns beside MLflow's assistant


class Experiments:
    """Stands for a client that keeps tags of one experiment and finds runs in it."""

    creation_time = 5
    experiment_id = "1"

    def __init__(self, *, is_broken: bool = False, runs=(), num_failed=0) -> None:
        self.tags: dict[str, str] = {}
        self.num_writes = 0
        self.runs, self.num_failed = list(runs), num_failed
        self._is_broken = is_broken

    def get_experiment(self, experiment):
        if self._is_broken:
            raise RuntimeError("no tags here")
        return self

    def set_experiment_tag(self, experiment, key, value):
        self.tags[key] = value
        self.num_writes += 1

    def delete_experiment_tag(self, experiment, key):
        del self.tags[key]

    def search_runs(self, experiments, query, **others):
        found = self.runs if "!=" in query else [None] * self.num_failed
        return Page(found)


class Page(list):
    token = None


def a_run(kind: str, *metrics: str, **tags: str):
    data = SimpleNamespace(metrics=dict.fromkeys(metrics, 0.5), tags={"supsup.kind": kind, **tags})
    return SimpleNamespace(data=data, info=SimpleNamespace(status="FINISHED"))


def state(content: str) -> dict:
    packed = json.loads(content)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_views_are_saved_once_and_never_fatal(monkeypatch):
    client = Experiments()
    assert save_views(client, "1") == (SWEEPS, WORST)
    num_writes = client.num_writes
    assert save_views(client, "1") == (SWEEPS, WORST)
    assert client.num_writes == num_writes
    assert not save_views(Experiments(is_broken=True), "1")
    monkeypatch.setattr(orchestrator.tracking.views, "mlflow_version", lambda: "3.99.0")
    other = Experiments()
    assert not save_views(other, "1")
    assert other.tags == {}


@pytest.mark.parametrize("version", ["3.17.0", "3.17.2", "3.18.0", "3.18.1"])
def test_the_versions_that_we_know(version, monkeypatch):
    monkeypatch.setattr(orchestrator.tracking.views, "mlflow_version", lambda: version)
    assert save_views(Experiments(), "1")
    assert str(KNOWN_VERSIONS[1]) == "3.19"


def test_failed_tasks_are_shown_with_their_number_or_not_at_all():
    client = Experiments(num_failed=3)
    assert [view.name for view in save_views(client, "1")][-1] == "Failed tasks (3)"
    assert "[Failed tasks (3)](#/experiments/1/runs?" in client.tags["mlflow.note.content"]
    client.num_failed = 0
    save_views(client, "1")
    assert TAG + "supsup-failed" not in client.tags
    assert "Failed" not in client.tags["mlflow.note.content"]


def test_a_description_of_someone_else_is_left_alone():
    client = Experiments()
    client.tags["mlflow.note.content"] = "mine"
    save_views(client, "1")
    assert client.tags["mlflow.note.content"] == "mine"


def test_a_search_shows_its_keys_and_only_what_all_its_points_have():
    tags = {"supsup.search": "s-search"}
    own = {
        **tags,
        "supsup.search_keys": '["training.optimizer.lr", "seed"]',
        "supsup.search_metric": "GNu/accuracy",
    }
    known = ("GG/accuracy", "GNu/accuracy", "GNu/task_inference_accuracy", "GNu/one_shot-H-1/accuracy")
    points = [a_run("sweep", *known, **tags), a_run("sweep", *known, "GNs/accuracy", **tags)]
    client = Experiments(runs=[a_run("search", **own), *points])
    search, *others = save_views(client, "1")
    assert [view.key for view in others] == ["supsup-sweeps", "supsup-worst", "supsup-runs"]
    assert search.query == "tags.`supsup.search` = 's-search'"
    assert search.columns == (
        "metrics.`GNu/accuracy`",
        "params.`training.optimizer.lr`",
        "params.`seed`",
        "metrics.`GG/accuracy`",
        "metrics.`GNu/task_inference_accuracy`",
    )


def test_a_view_is_what_mlflows_pages_unpack():
    found = state(encode(WORST, 7))
    assert found["orderByKey"] == "metrics.`test_accuracy`"
    assert found["orderByAsc"] is True
    assert "metrics.`test_accuracy`" in found["selectedColumns"]
    assert found["columnOrder"][2] == "metrics.`test_accuracy`"
    assert TAG.endswith(".")


def test_the_columns_of_a_sweep_fit_beside_the_assistant():
    widths = state(encode(SWEEPS, 7))["columnWidths"]
    assert sum(width for name, width in widths.items() if name.startswith("metrics.")) <= ROOM
