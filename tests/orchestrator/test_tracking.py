"""MLflow is a view of the run folder: complete, never doubled, never in the way."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

import orchestrator.tracking
from orchestrator.config import dotted_keys, load_sweep
from orchestrator.evaluate import evaluate_run
from orchestrator.run_folder import locate_run
from orchestrator.sweep import run_sweep
from orchestrator.tracked import TrackedEnd, TrackedRun, absolute_uri
from orchestrator.tracking import MlflowTracker, make_tracker
from orchestrator.ui import runs_page, start_server, stop_server
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder, report

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations


def tracked(folder: Path) -> TrackedRun:
    return TrackedRun(
        experiment="exp",
        name="exp-01234567",
        fingerprint="0" * 64,
        created_s=1000.0,
        params={"seed": 1, "benchmark.num_tasks": 3},
        artifact_root=folder / "artifacts",
        task_runs="none",
    )


def client_of(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def only_run(client, experiment: str):
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


def points(client, run_id: str, key: str) -> list[tuple[int, int]]:
    return sorted((m.step, m.timestamp) for m in client.get_metric_history(run_id, key))


@pytest.mark.slow
def test_a_sweep_in_mlflow_is_one_run_complete_and_never_doubled(tmp_path):
    """First run, the same again, grown: one experiment, one run, one point per task."""
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text(tmp_path / "runs", tracking=f"{{uri: '{uri}'}}"))
    for settings, num_tasks in (([], 4), ([], 4), (["benchmark.num_tasks=6", "evaluation.at=[2,4,6]"], 6)):
        config = load_sweep(path, settings)
        display = Recorder()
        run_sweep(config, None, display)
        assert "MLflow" not in display.messages
        client = client_of(uri)
        run = only_run(client, "tiny")
        assert run.info.status == "FINISHED"
        assert run.info.run_name == locate_run(config).name
        for key in ("test_accuracy", "train_loss", "train_seconds", "density"):
            assert [s for s, _ in points(client, run.info.run_id, f"task/{key}")] == list(range(num_tasks))
        steps = [2, 4] if num_tasks == 4 else [2, 4, 6]
        assert [s for s, _ in points(client, run.info.run_id, "GG/accuracy")] == steps
        assert run.data.params["training.optimizer.lr"] == "0.01"
        assert run.data.tags["supsup.num_tasks"] == str(num_tasks)
        names = {f.path for f in client.list_artifacts(run.info.run_id)}
        assert names == {"config.yaml", "tasks.parquet", "report"}
        assert (tmp_path / "store" / "mlflow-artifacts" / "tiny").is_dir()


@pytest.mark.slow
def test_evaluating_adds_to_the_same_mlflow_run_and_does_not_finish_one_that_was_stopped(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    path = tmp_path / "tiny.yaml"
    evaluation = "{scenarios: [GNu], at: [2, 4]}"
    path.write_text(sweep_text(tmp_path / "runs", tracking=f"{{uri: '{uri}'}}", evaluation=evaluation))
    config = load_sweep(path)
    run_sweep(config, None, Recorder())
    root = locate_run(config).layout.root
    keys = ["GNu/accuracy", "GNu/task_inference_accuracy"]
    for settings, own, status in (([], True, "FINISHED"), (["objective=H"], False, "KILLED")):
        words = [f"evaluation.inference.{setting}" for setting in settings]
        evaluate_run(root, words, None, Recorder())
        client = client_of(uri)
        run = only_run(client, "tiny")
        assert run.info.status == status
        for key in keys:
            assert [s for s, _ in points(client, run.info.run_id, key)] == [2, 4]
        named = points(client, run.info.run_id, "GNu/one_shot-H-1/accuracy")
        assert [s for s, _ in named] == ([] if own else [2])
        locate_run(config).layout.cohort(2, 3).unlink(missing_ok=True)


def test_sending_everything_again_changes_nothing_and_fills_what_is_missing(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for known in ([report(0)], [report(0), report(1)], [report(0), report(1), report(2)]):
        tracker = MlflowTracker(uri, pytest.fail)
        tracker.open(tracked(tmp_path), known)
        tracker.tasks([known[-1]])
        assert tracker.close(TrackedEnd(status="FINISHED", metrics=(("GG/accuracy", 1, 0.5),)))
    client = client_of(uri)
    run = only_run(client, "exp")
    assert points(client, run.info.run_id, "task/train_loss") == [(0, 10_000), (1, 11_000), (2, 12_000)]
    assert points(client, run.info.run_id, "GG/accuracy") == [(1, 1_000_000)]


@pytest.mark.parametrize(("task_runs", "names"), [("all", {0, 1, 2}), ("failed", {2}), ("none", set())])
def test_tasks_have_runs_of_their_own_where_wanted_and_never_two(tmp_path, task_runs, names):
    """Twice the same: tasks 0 and 1 trained, task 2 failed."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for _ in range(2):
        tracker = MlflowTracker(uri, pytest.fail)
        tracker.open(replace(tracked(tmp_path), task_runs=task_runs), [report(0), report(1)])
        assert tracker.close(TrackedEnd(status="FAILED", failed=((2, "no luck"),)))
    client = client_of(uri)
    experiment = client.get_experiment_by_name("exp").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`supsup.kind` = 'sweep'")
    children = client.search_runs([experiment], "tags.`supsup.kind` = 'task'")
    assert {int(child.data.tags["supsup.task"]) for child in children} == names
    assert len(children) == len(names)
    assert parent.data.tags["supsup.num_failed"] == "1"
    for child in children:
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        failed = child.data.tags["supsup.task"] == "2"
        assert child.info.status == ("FAILED" if failed else "FINISHED")
        assert child.data.tags.get("supsup.error") == ("no luck" if failed else None)


def test_another_run_of_the_same_experiment_is_another_mlflow_run(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for mark in "01":
        tracker = MlflowTracker(uri, pytest.fail)
        tracker.open(replace(tracked(tmp_path), fingerprint=mark * 64, name=f"exp-{mark}"), [])
        assert tracker.close(TrackedEnd(status="FINISHED"))
    client = client_of(uri)
    assert len(client.search_runs([client.get_experiment_by_name("exp").experiment_id])) == 2


def test_an_unreachable_mlflow_warns_once_and_delays_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(orchestrator.tracking, "FLUSH_S", 0.5)
    monkeypatch.setattr(orchestrator.tracking, "RETRY_S", 0.1)
    warnings: list[str] = []
    tracker = MlflowTracker("http://127.0.0.1:9", warnings.append)
    start_s = time.monotonic()
    tracker.open(tracked(tmp_path), [report(0)])
    for task in range(1, 500):
        tracker.tasks([report(task)])
    assert time.monotonic() - start_s < 5  # MLflow alone would ask again for minutes
    deadline_s = time.monotonic() + 60
    while not warnings and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not tracker.close(TrackedEnd(status="FINISHED"))
    assert len(warnings) == 1
    assert "http://127.0.0.1:9 does not answer; training goes on" in warnings[0]


@pytest.mark.slow
def test_mlflow_stopped_in_the_middle_of_a_run(tmp_path, monkeypatch):
    """The server goes down after the first tasks and comes back: nothing is lost, exit is clean."""
    monkeypatch.setattr(orchestrator.tracking, "FLUSH_S", 1.0)
    monkeypatch.setattr(orchestrator.tracking, "RETRY_S", 0.2)
    store = f"sqlite:///{tmp_path}/server.db"
    client_of(store).search_experiments()
    server, address = start_server(store, None)
    try:
        path = tmp_path / "tiny.yaml"
        path.write_text(sweep_text(tmp_path / "runs", tracking=f"{{uri: '{address}'}}"))
        config = load_sweep(path, ["training.cohort_size=1"])
        display = StoppingDisplay(lambda: wait_then_stop(store, server))
        assert run_sweep(config, None, display).failures == ()
        assert "does not answer; training goes on" in display.messages
        assert "the next `supsup run` of the same sweep sends the rest" in display.messages
        assert len(client_points(store)) < 4
        server, _ = start_server(store, int(address.rsplit(":", 1)[1]))
        again = Recorder()
        assert run_sweep(config, None, again).num_trained == 0
        assert "MLflow" not in again.messages
        assert [step for step, _ in client_points(store)] == [0, 1, 2, 3]
        assert only_run(client_of(store), "tiny").info.status == "FINISHED"
    finally:
        stop_server(server)


def client_points(store: str) -> list[tuple[int, int]]:
    client = client_of(store)
    return points(client, only_run(client, "tiny").info.run_id, "task/test_accuracy")


def wait_then_stop(store: str, server) -> None:
    """Stop the server once the first task has arrived there."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and not has_points(store):
        time.sleep(0.1)
    stop_server(server)


def has_points(store: str) -> bool:
    client = client_of(store)
    experiment = client.get_experiment_by_name("tiny")
    return (
        experiment is not None
        and bool(client.search_runs([experiment.experiment_id]))
        and bool(client_points(store))
    )


class StoppingDisplay(Recorder):
    """Does something once, after the first finished job."""

    def __init__(self, action) -> None:
        super().__init__()
        self._action = action

    def advance(self, job, result):
        if self._action is not None and result.reports:
            self._action, action = None, self._action
            action()


def test_no_uri_means_no_tracking(tmp_path):
    tracker = make_tracker(None, pytest.fail)
    tracker.open(tracked(tmp_path), [])
    tracker.tasks([report(0)])
    assert tracker.close(TrackedEnd(status="FINISHED"))


def test_relative_sqlite_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert absolute_uri("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


def test_params_are_dotted():
    assert dotted_keys({"a": {"b": {"c": 1}}, "d": None}) == {"a.b.c": 1, "d": None}


def test_the_link_opens_the_training_view():
    assert runs_page("http://127.0.0.1:1", "7").endswith(
        "/#/experiments/7/runs?workflowType=machine_learning"
    )
