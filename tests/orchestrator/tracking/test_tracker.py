"""MLflow is a view of the run folder: complete, never doubled, never in the way."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest

import orchestrator.tracking.tracker
from core.errors import ConfigError, SupSupError
from orchestrator.config.load import dotted_keys, load_sweep
from orchestrator.config.store_uri import absolute_uri
from orchestrator.evaluate import evaluate_run
from orchestrator.execution.jobs import Job
from orchestrator.runs.history import begin_session, read_sessions, write_failures
from orchestrator.runs.run import locate_run, open_run
from orchestrator.search.search import run_search
from orchestrator.search.summary import draw_search, track_search
from orchestrator.sweep import run_sweep
from orchestrator.tracking.sender import MlflowSender
from orchestrator.tracking.server import find_links, start_server, stop_server
from orchestrator.tracking.sync import sync_run
from orchestrator.tracking.tracker import Background, Trackers, open_trackers
from orchestrator.tracking.views import TAG
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations

NEVER = "http://127.0.0.1:9"  # nobody listens there
TIMES = ("start", "end")


def client_of(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def tracked_sweep(folder: Path, uri: str, name: str = "tiny.yaml", **changes: str) -> Path:
    path = folder / name
    path.write_text(sweep_text(folder / "runs", tracking=f"{{uri: '{uri}', figures: false}}", **changes))
    return path


def runs_of(client, kind: str, experiment: str = "tiny"):
    found = client.get_experiment_by_name(experiment)
    query = f"tags.`supsup.kind` = '{kind}'"
    return [] if found is None else list(client.search_runs([found.experiment_id], query, max_results=1000))


def only_sweep(client):
    (run,) = runs_of(client, "sweep")
    return run


def points(client, run_id: str, key: str) -> list[tuple[int, int]]:
    return sorted((m.step, m.timestamp) for m in client.get_metric_history(run_id, key))


def content(uri: str) -> dict[str, dict]:
    """Return all that MLflow has, by the name of the run; ids, which every store makes anew, left out."""
    client, found = client_of(uri), {}
    for kind in ("sweep", "task"):
        for run in runs_of(client, kind):
            tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
            history = [client.get_metric_history(run.info.run_id, key) for key in run.data.metrics]
            found[run.info.run_name] = {
                "status": run.info.status,
                "start": run.info.start_time,
                "end": run.info.end_time,
                "params": run.data.params,
                "tags": tags,
                "has_parent": "mlflow.parentRunId" in run.data.tags,
                "points": sorted((m.key, m.step, m.timestamp, m.value) for of in history for m in of),
                "inputs": sorted((i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs),
                "artifacts": sorted(
                    file.path for at in ("", "report") for file in client.list_artifacts(run.info.run_id, at)
                ),
            }
    return found


def test_a_sweep_and_its_tasks_in_mlflow_complete_and_never_doubled(tmp_path):
    """First run, the same again, grown: one parent, a child per task, one point per task and k."""
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    path = tracked_sweep(tmp_path, uri)
    for settings, num_tasks in (([], 4), ([], 4), (["benchmark.num_tasks=6", "evaluation.at=[2,4,6]"], 6)):
        display = Recorder()
        run_sweep(load_sweep(path, settings), None, display)
        assert "MLflow" not in display.messages
        client = client_of(uri)
        run = only_sweep(client)
        assert run.info.status == "FINISHED"
        for key in ("test_accuracy", "train_loss", "train_seconds", "density", "mask_bytes"):
            assert [s for s, _ in points(client, run.info.run_id, f"task/{key}")] == list(range(num_tasks))
        steps = [2, 4] if num_tasks == 4 else [2, 4, 6]
        assert [s for s, _ in points(client, run.info.run_id, "GG/accuracy")] == steps
        assert run.data.params["training.optimizer.lr"] == "0.01"
        assert "None" not in run.data.params.values()
        assert run.data.params["tracking.task_runs"] == "all"
        assert run.data.tags["supsup.num_tasks"] == str(num_tasks)
        assert f"The run finished: {num_tasks} of {num_tasks} tasks" in run.data.tags["mlflow.note.content"]
        children = runs_of(client, "task")
        assert sorted(child.info.run_name for child in children) == [
            f"task-{t:04d}" for t in range(num_tasks)
        ]
        assert {child.data.tags["mlflow.parentRunId"] for child in children} == {run.info.run_id}
        assert {child.info.status for child in children} == {"FINISHED"}
    names = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert names == {"config.yaml", "tasks.parquet", "report"}
    assert (tmp_path / "store" / "mlflow-artifacts" / "tiny").is_dir()
    check_lineage(run, load_sweep(path))
    check_children(run, children, load_sweep(path))
    assert run.data.metrics["system/cpu_utilization_percentage"] >= 0


def check_lineage(run, config) -> None:
    """Find data set and masks by digest, the masks as they were after 4 tasks and after 6."""
    record = open_run(locate_run(config).layout.root)[1]
    inputs = {i.dataset.name: i for i in run.inputs.dataset_inputs}
    assert set(inputs) == {"synthetic", "masks of 4 tasks", "masks of 6 tasks"}
    assert record.provenance["dataset_digest"].startswith(inputs["synthetic"].dataset.digest)
    assert run.data.tags["supsup.masks_digest"].startswith(inputs["masks of 6 tasks"].dataset.digest)
    assert [tag.value for tag in inputs["masks of 6 tasks"].tags] == ["output"]


def check_children(run, children, config) -> None:
    """Find in a task's run what was measured, and under the same names the means in the sweep's."""
    stored = {row["task"]: row for row in locate_run(config).store.info_table().to_pylist()}
    for child in children:
        row = stored[int(child.data.params["task"])]
        assert child.data.metrics["test_accuracy"] == pytest.approx(row["test_accuracy"], rel=1e-3)
        assert child.data.tags["supsup.mask_digest"] == row["digest"]
    for key in ("test_accuracy", "train_loss", "train_seconds", "density", "mask_bytes"):
        of_tasks = [child.data.metrics[key] for child in children]
        assert run.data.metrics[key] == pytest.approx(sum(of_tasks) / len(of_tasks), rel=1e-3)
        assert points(client_of(config.tracking.uri), run.info.run_id, key)[-1][0] == len(children)


def test_sync_makes_what_a_run_with_mlflow_up_would_have_made(tmp_path):
    """Once with MLflow up, and then into an empty store from the run folder: equal, times included."""
    live, later = (f"sqlite:///{tmp_path}/{name}.db" for name in ("live", "later"))
    config = load_sweep(tracked_sweep(tmp_path, live))
    run_sweep(config, None, Recorder())
    root = locate_run(config).layout.root
    assert sync_run(root, later, Recorder()) == (later, 4)
    assert content(live) == content(later)
    assert len(content(live)) == 5
    assert sync_run(root, later, Recorder()) == (later, 0)
    assert content(live) == content(later)


def test_mlflow_down_for_a_whole_run_and_then_sync(tmp_path, monkeypatch):
    """The same as a run of the sweep with MLflow up, but for the times and what is measured in them."""
    up = f"sqlite:///{tmp_path}/up.db"
    for folder, uri in ((tmp_path / "a", up), (tmp_path / "b", NEVER)):
        folder.mkdir()
        display = Recorder()
        if uri == NEVER:
            monkeypatch.setattr(orchestrator.tracking.tracker, "FLUSH_S", 0.5)
        config = load_sweep(tracked_sweep(folder, uri))
        assert run_sweep(config, None, display).failures == ()
    assert "does not answer; training goes on" in display.messages
    assert "`supsup sync " in display.messages
    synced = f"sqlite:///{tmp_path}/synced.db"
    sync_run(locate_run(config).layout.root, synced, Recorder())
    assert timeless(content(up)) == timeless(content(synced))


def timeless(found: dict[str, dict]) -> dict[str, dict]:
    """Drop times, and what depends on where and when it ran."""
    ours = ("storage.uri", "tracking.uri")
    moving = ("supsup.worker", "supsup.folder", "mlflow.note.content")
    return {
        name: {
            **{key: value for key, value in run.items() if key not in TIMES},
            "params": {key: value for key, value in run["params"].items() if key not in ours},
            "tags": {key: value for key, value in run["tags"].items() if key not in moving},
            "points": [
                (key, step, value)
                for key, step, _, value in run["points"]
                if "seconds" not in key and not key.startswith("system/")
            ],
        }
        for name, run in found.items()
    }


def test_what_a_crash_left_running_is_put_right(tmp_path):
    """Killed while a child run was being written, and with a session that never ended."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    config = load_sweep(tracked_sweep(tmp_path, uri))
    run_sweep(config, None, Recorder())
    run, record = open_run(locate_run(config).layout.root)
    begin_session(run.layout)
    sender = MlflowSender(run, record, uri)
    sender.open()
    client = client_of(uri)
    child = next(c for c in runs_of(client, "task") if c.data.params["task"] == "2")
    client.update_run(child.info.run_id, status="RUNNING")
    assert only_sweep(client).info.status == "RUNNING"
    sync_run(run.layout.root, None, Recorder())
    assert only_sweep(client).info.status == "KILLED"
    assert Counter(c.info.status for c in runs_of(client, "task")) == {"FINISHED": 4}
    run_sweep(config, None, Recorder())
    assert only_sweep(client).info.status == "FINISHED"
    assert [session.status for session in read_sessions(run.layout)] == ["FINISHED", None, "FINISHED"]


@pytest.mark.parametrize(("task_runs", "names"), [("all", {0, 1, 2, 3}), ("failed", {3}), ("none", set())])
def test_failed_tasks_have_runs_that_say_why_and_end_well_later(tmp_path, task_runs, names):
    """Task 3 fails, is sent twice, and is trained then."""
    from orchestrator.execution.controller import Failure

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    config = load_sweep(tracked_sweep(tmp_path, uri), [f"tracking.task_runs={task_runs}"])
    run_sweep(config, None, Recorder())
    run, _ = open_run(locate_run(config).layout.root)
    whole = run.layout.cohort(2, 3).read_bytes()
    run.layout.cohort(2, 3).unlink()
    last = Failure(job=Job(first=3, last=3), error=SupSupError("no luck\nat all"), num_attempts=4)
    write_failures(run, [last])
    other = f"sqlite:///{tmp_path}/other.db"
    for _ in range(2):
        sync_run(run.layout.root, other, Recorder())
    client = client_of(other)
    failed = names - {0, 1, 2} if task_runs != "none" else set()
    children = {int(c.data.tags["supsup.task"]): c for c in runs_of(client, "task")}
    assert set(children) == (names - {2})
    assert {task for task, child in children.items() if child.info.status == "FAILED"} == failed
    assert all(children[task].data.tags["supsup.error"] == "no luck" for task in failed)
    assert only_sweep(client).data.tags["supsup.num_failed"] == "1"
    assert ("Failed tasks (1)" in views_of(client)) == bool(failed)
    run.layout.cohort(2, 3).write_bytes(whole)
    write_failures(run, [])
    sync_run(run.layout.root, other, Recorder())
    ended = {int(c.data.tags["supsup.task"]): c for c in runs_of(client, "task")}
    assert set(ended) == names
    assert {child.info.status for child in ended.values()} <= {"FINISHED"}
    assert not any("supsup.error" in child.data.tags for child in ended.values())
    assert views_of(client) == ["Sweep with its tasks", "Tasks, worst first"]


def views_of(client) -> list[str]:
    """Return the names of our views in the experiment's tags, which its description links to."""
    found = client.get_experiment_by_name("tiny").tags
    names = [json.loads(value)["name"] for key, value in found.items() if key.startswith(TAG)]
    assert all(f"[{name}](#/experiments/" in found["mlflow.note.content"] for name in names)
    return names


def test_evaluating_adds_to_the_same_mlflow_run_and_does_not_finish_one_that_was_stopped(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    config = load_sweep(tracked_sweep(tmp_path, uri, evaluation="{scenarios: [GNu], at: [2, 4]}"))
    run_sweep(config, None, Recorder())
    root = locate_run(config).layout.root
    keys = ["GNu/accuracy", "GNu/task_inference_accuracy"]
    for settings, own, status in (([], True, "FINISHED"), (["objective=H"], False, "KILLED")):
        words = [f"evaluation.inference.{setting}" for setting in settings]
        evaluate_run(root, words, None, Recorder())
        client = client_of(uri)
        run = only_sweep(client)
        assert run.info.status == status
        for key in keys:
            assert [s for s, _ in points(client, run.info.run_id, key)] == [2, 4]
        named = points(client, run.info.run_id, "GNu/one_shot-H-1/accuracy")
        assert [s for s, _ in named] == ([] if own else [2])
        locate_run(config).layout.cohort(2, 3).unlink(missing_ok=True)


def test_sync_keeps_what_an_older_version_has_sent(tmp_path):
    """Older versions sent six digits, no means, no tags of searches, and parameters that are null."""
    from mlflow.entities import Metric, Param

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    config = load_sweep(tracked_sweep(tmp_path, uri))
    run_sweep(config, None, Recorder())
    client, old = client_of(uri), f"sqlite:///{tmp_path}/old.db"
    new, before = only_sweep(client), client_of(old)
    experiment = before.create_experiment("tiny")
    before.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    root = before.create_run(experiment, start_time=new.info.start_time, tags=old_tags(new))
    created = new.info.start_time
    before.log_batch(root.info.run_id, [Metric("GG/accuracy", 0.12345678, created, 1)], [Param("x", "None")])
    points_of = {m.step: m.value for m in client.get_metric_history(new.info.run_id, "GG/accuracy")}
    longer = [Metric("GG/accuracy", value + 1e-6, created, k) for k, value in points_of.items()]
    before.log_batch(root.info.run_id, longer)
    child = before.create_run(
        experiment, tags=old_tags(new, task=2) | {"mlflow.parentRunId": root.info.run_id}
    )
    before.log_batch(child.info.run_id, [Metric("test_accuracy", 0.12345678, created, 0)])
    before.set_terminated(child.info.run_id)
    for _ in range(2):
        assert sync_run(locate_run(config).layout.root, old, Recorder())[0] == old
        run = only_sweep(before)
        assert run.info.run_id == root.info.run_id
        assert [step for step, _ in points(before, run.info.run_id, "GG/accuracy")] == [1, *sorted(points_of)]
        assert run.data.params["x"] == "None"
        assert run.data.metrics["test_accuracy"] > 0
        assert before.get_run(child.info.run_id).data.metrics == {"test_accuracy": 0.12345678}
        assert len(runs_of(before, "task")) == 4
        assert before.get_experiment(experiment).tags["mlflow.note.content"] == "mine"


def old_tags(run, task: int | None = None) -> dict[str, str]:
    """Return the tags by which an older version finds a sweep's run, or that of a task."""
    tags = {key: run.data.tags[key] for key in ("supsup.sweep", "supsup.fingerprint")}
    if task is None:
        return tags | {"supsup.kind": "sweep"}
    return tags | {"supsup.kind": "task", "supsup.task": str(task)}


def test_a_search_takes_in_points_that_are_older_and_points_that_mlflow_lacks(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    path = tracked_sweep(tmp_path, uri)
    run_sweep(load_sweep(path, ["seed=1"]), None, Recorder())
    run_sweep(load_sweep(path, ["seed=2", "tracking.uri=null"]), None, Recorder())
    client = client_of(uri)
    assert "mlflow.parentRunId" not in only_sweep(client).data.tags
    config = load_sweep(path, ["search.space.seed=[1,2,3]"])
    display = Recorder()
    results = run_search(config, None, display)
    track_search(config, results, draw_search(config, results), display)
    assert "MLflow" not in display.messages
    (search,) = runs_of(client, "search")
    sweeps = runs_of(client, "sweep")
    assert {run.data.tags["mlflow.parentRunId"] for run in sweeps} == {search.info.run_id}
    in_view = sorted([search, *sweeps], key=lambda run: run.data.tags["supsup.rank"])
    assert in_view[0].info.run_id == search.info.run_id
    assert [run.data.params["seed"] for run in in_view[1:]] == ["1", "2", "3"]  # no seed is better


def test_a_search_is_one_run_above_those_of_its_points(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    path = tracked_sweep(tmp_path, uri)
    for rates, num_points in (("[0.01]", 2), ("[0.01,0.02]", 4)):
        config = load_sweep(path, ["search.space.seed=[1,2]", f"search.space.training.optimizer.lr={rates}"])
        display = Recorder()
        results = run_search(config, None, display)
        track_search(config, results, draw_search(config, results), display)
        assert "MLflow" not in display.messages
        client = client_of(uri)
        (search,) = runs_of(client, "search")
        sweeps = runs_of(client, "sweep")
        assert len(sweeps) == num_points
        assert {run.data.tags["mlflow.parentRunId"] for run in sweeps} == {search.info.run_id}
        assert search.info.status == "FINISHED"
        assert search.data.tags["space.training.optimizer.lr"] == str(json.loads(rates))
        assert "search.json" in {file.path for file in client.list_artifacts(search.info.run_id)}
    assert search.data.metrics["best/GG/accuracy"] == max(r.metrics["GG/accuracy"] for r in results)


def test_an_unreachable_mlflow_warns_once_and_delays_nothing(sweep, monkeypatch):
    monkeypatch.setattr(orchestrator.tracking.tracker, "RETRY_S", 0.1)
    run_sweep(load_sweep(sweep), None, Recorder())
    run, record = open_run(locate_run(load_sweep(sweep)).layout.root)
    warnings: list[str] = []
    tracker = Trackers([Background(MlflowSender(run, record, NEVER), warnings.append)])
    start_s = time.monotonic()
    tracker.open()
    for task in range(1, 500):
        tracker.tasks([run.layout.cohort(task, task).name])
    assert time.monotonic() - start_s < 5  # MLflow alone would ask again for minutes
    deadline_s = time.monotonic() + 60
    while not warnings and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert tracker.close(is_hurried=True) == ("MLflow",)
    assert len(warnings) == 1
    assert f"{NEVER} does not answer; training goes on" in warnings[0]
    with pytest.raises(SupSupError, match="did not accept tiny"):
        sync_run(run.layout.root, NEVER, Recorder())


def test_a_stopped_run_leaves_runs_of_tasks_to_the_next_start(tmp_path):
    """Its own end is sent at once; the four runs that wait are not waited for."""
    config = load_sweep(tracked_sweep(tmp_path, f"sqlite:///{tmp_path}/first.db"))
    run_sweep(config, None, Recorder())
    run, record = open_run(locate_run(config).layout.root)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    sender = MlflowSender(run, record, uri)
    sender.open()
    sender.add(None)
    sender.hurry()
    for step in sender.end():
        step()
    client = client_of(uri)
    assert only_sweep(client).info.status == "FINISHED"
    assert runs_of(client, "task") == []
    assert sync_run(run.layout.root, uri, Recorder()) == (uri, 4)


@pytest.mark.long
@pytest.mark.slow
def test_mlflow_stopped_in_the_middle_of_a_run(tmp_path, monkeypatch):
    """The server goes down after the first tasks and comes back: nothing is lost, exit is clean."""
    monkeypatch.setattr(orchestrator.tracking.tracker, "FLUSH_S", 1.0)
    monkeypatch.setattr(orchestrator.tracking.tracker, "RETRY_S", 0.2)
    store = f"sqlite:///{tmp_path}/server.db"
    client_of(store).search_experiments()
    server, address = start_server(store, None)
    try:
        config = load_sweep(tracked_sweep(tmp_path, address), ["training.cohort_size=1"])
        display = StoppingDisplay(lambda: wait_then_stop(store, server))
        assert run_sweep(config, None, display).failures == ()
        assert "does not answer; training goes on" in display.messages
        assert f"or `supsup run {locate_run(config).layout.root}` sends the rest" in display.messages
        assert len(client_points(store)) < 4
        monkeypatch.setattr(orchestrator.tracking.tracker, "FLUSH_S", 15.0)
        server, _ = start_server(store, int(address.rsplit(":", 1)[1]))
        again = Recorder()
        assert run_sweep(config, None, again).num_trained == 0
        assert "MLflow" not in again.messages
        assert [step for step, _ in client_points(store)] == [0, 1, 2, 3]
        assert only_sweep(client_of(store)).info.status == "FINISHED"
        check_links(address, locate_run(config).fingerprint)
    finally:
        stop_server(server)


def check_links(address: str, fingerprint: str) -> None:
    links = find_links(address, "tiny", fingerprint)
    assert list(links.views) == ["Sweep with its tasks", "Tasks, worst first"]
    assert all("workflowType=machine_learning" in link for link in (links.runs, *links.views.values()))
    assert only_sweep(client_of(address)).info.run_id in links.run
    assert find_links(address).runs.endswith("/#/experiments")
    assert find_links(address, "no such").views == {}


def client_points(store: str) -> list[tuple[int, int]]:
    client = client_of(store)
    return points(client, only_sweep(client).info.run_id, "task/test_accuracy")


def wait_then_stop(store: str, server) -> None:
    """Stop the server once the first task has arrived there."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and not has_points(store):
        time.sleep(0.1)
    stop_server(server)


def has_points(store: str) -> bool:
    return bool(runs_of(client_of(store), "sweep")) and bool(client_points(store))


class StoppingDisplay(Recorder):
    """Does something once, after the first finished job."""

    def __init__(self, action) -> None:
        super().__init__()
        self._action = action

    def on_result(self, job, result):
        if self._action is not None and result.reports:
            self._action, action = None, self._action
            action()


def test_no_uri_means_no_tracking(sweep):
    config = load_sweep(sweep)
    run_sweep(config, None, Recorder())
    run, record = open_run(locate_run(config).layout.root)
    trackers = open_trackers(run, record, pytest.fail)
    trackers.tasks([run.layout.cohort(0, 0).name])
    assert trackers.names == trackers.close() == ()
    with pytest.raises(ConfigError, match=r"found tracking\.uri null"):
        sync_run(run.layout.root, None, Recorder())


@pytest.mark.parametrize(("num_tasks", "which"), [(5000, "all"), (5001, "failed")])
def test_tasks_get_runs_by_default_unless_they_are_too_many(sweep, num_tasks, which):
    config = load_sweep(sweep, [f"benchmark.num_tasks={num_tasks}", "evaluation.at=null"])
    assert config.tracking.task_runs == which
    assert load_sweep(sweep, ["tracking.task_runs=none"]).tracking.task_runs == "none"


def test_relative_sqlite_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert absolute_uri("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


def test_params_are_dotted():
    assert dotted_keys({"a": {"b": {"c": 1}}, "d": None}) == {"a.b.c": 1, "d": None}
