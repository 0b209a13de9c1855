"""Saved views of MLflow's pages: as MLflow unpacks them, and never fatal."""

import base64
import json
import zlib

import pytest

import orchestrator.tracking.views
from orchestrator.tracking.views import TAG, VIEWS, encode, save_views

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations


class Experiments:
    """Stands for a client that keeps tags of one experiment."""

    def __init__(self, *, is_broken: bool = False) -> None:
        self.tags: dict[str, str] = {}
        self.num_writes = 0
        self._is_broken = is_broken

    creation_time = 5

    def get_experiment(self, experiment):
        if self._is_broken:
            raise RuntimeError("no tags here")
        return self

    def set_experiment_tag(self, experiment, key, value):
        self.tags[key] = value
        self.num_writes += 1


def test_views_are_saved_once_and_never_fatal(monkeypatch):
    client = Experiments()
    assert save_views(client, "1")
    assert save_views(client, "1")
    assert client.num_writes == len(VIEWS)
    assert {json.loads(value)["name"] for value in client.tags.values()} == {view.name for view in VIEWS}
    assert not save_views(Experiments(is_broken=True), "1")
    monkeypatch.setattr(orchestrator.tracking.views, "mlflow_version", lambda: "3.99.0")
    other = Experiments()
    assert not save_views(other, "1")
    assert other.tags == {}


def test_a_view_is_what_mlflows_pages_unpack():
    worst = next(view for view in VIEWS if view.key == "supsup-worst")
    packed = json.loads(encode(worst, 7))["state"].removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state["orderByKey"] == "metrics.`test_accuracy`"
    assert state["orderByAsc"] is True
    assert "metrics.`test_accuracy`" in state["selectedColumns"]
    assert TAG.endswith(".")
