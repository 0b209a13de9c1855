"""Tasks that arrive over HTTP: stored as files, trained by a run of their own, answered once their masks are there."""

import asyncio
import json

import numpy as np
import pytest

from core.data.task_files import task_files
from core.errors import ConfigError, DataError
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run, open_run
from orchestrator.serve.arrivals import Arrivals
from orchestrator.serve.engine import Engine
from orchestrator.serve.generation import read_generation
from orchestrator.serve.limits import Limits
from orchestrator.serve.service import Service, Shortcut
from orchestrator.sweep import run_sweep
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder
from tests.orchestrator.serve.conftest import Client, make_app, npz

NPZ = "application/x-npz"
BENCHMARK = "{kind: files, dataset: arrivals/, num_classes: 4}"


def labelled(num_classes, seed, num=40):
    draw = np.random.default_rng(seed)
    prototypes, labels = (
        draw.integers(0, 192, (num_classes, 6, 6)),
        np.arange(num * num_classes) % num_classes,
    )
    return (prototypes[labels] + draw.integers(0, 64, (len(labels), 6, 6))).astype(np.uint8), labels


@pytest.fixture
def growing(tmp_path, monkeypatch):
    """Return a run of one task whose folder may grow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPSUP_DATA", str(tmp_path))
    (tmp_path / "arrivals").mkdir()
    (x_train, y_train), (x_test, y_test) = labelled(3, 0), labelled(3, 0, num=10)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    np.savez(tmp_path / "arrivals" / "task-00000.npz", **arrays)
    path = tmp_path / "sweep.yaml"
    changes = {
        "benchmark": BENCHMARK,
        "tracking": "{uri: null}",
        "executor": "{kind: inline}",
        "evaluation": "{scenarios: [GG]}",
        "training": "{steps: 60, batch_size: 16, optimizer: {kind: adam, lr: 1.0e-2}}",
    }
    path.write_text(sweep_text(tmp_path / "runs", **changes))
    config = load_sweep(path)
    run_sweep(config, tmp_path, Recorder())
    return open_run(locate_run(config).layout.root)[0]


def stored(folder, number):
    with np.load(folder / f"task-{number:05d}.npz") as arrays:
        return {name: arrays[name] for name in arrays}


def test_images_with_labels_are_divided_and_stored_as_the_next_task(growing, tmp_path):
    images, labels = labelled(4, 1)
    assert Arrivals(growing).add({"images": images.tolist(), "labels": labels.tolist()}) == 1
    found = stored(tmp_path / "arrivals", 1)
    assert (len(found["y_train"]), len(found["y_test"])) == (128, 32)
    assert np.bincount(found["y_test"]).tolist() == [8] * 4
    both = np.concatenate([found["x_train"], found["x_test"]])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in images)


def test_a_small_class_has_an_image_to_test_on_too(growing, tmp_path):
    images, labels = labelled(2, 1, num=2)
    Arrivals(growing).add({"images": images, "labels": labels})
    found = stored(tmp_path / "arrivals", 1)
    assert found["y_train"].tolist() == found["y_test"].tolist() == [0, 1]


def wrong():
    images, labels = labelled(2, 1)
    return {
        "nothing": ({}, "found no x_train"),
        "no labels": ({"images": images}, "found no x_train"),
        "too few labels": ({"images": images, "labels": labels[:3]}, "one for each"),
        "other size": ({"images": images[:, :5], "labels": labels}, r"\[5, 6\]"),
        "too many classes": ({"images": images, "labels": np.arange(80) % 5}, "found 5 classes"),
        "one class": ({"images": images, "labels": np.zeros(80, int)}, "found one class"),
        "pixels beyond": ({"images": images.astype(int) + 200, "labels": labels}, "expected uint8"),
    }


@pytest.mark.parametrize("name", wrong())
def test_a_wrong_task_is_refused_and_nothing_is_stored(growing, tmp_path, name):
    arrays, words = wrong()[name]
    with pytest.raises(DataError, match=words):
        Arrivals(growing).add(arrays)
    assert [path.name for path in (tmp_path / "arrivals").iterdir()] == ["task-00000.npz"]


def test_a_folder_with_names_that_would_come_after_is_refused(growing, tmp_path):
    (tmp_path / "arrivals" / "zebra.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"found zebra\.npz"):
        Arrivals(growing)


def test_runs_whose_tasks_are_no_files_take_none(run):
    with pytest.raises(ConfigError, match="expected 'files'"):
        Arrivals(run)


def talking(run, talk):
    async def main():
        engine = Engine(lambda before: read_generation(run, {}, before), 0.2)
        service = Service(engine, Limits(), Arrivals(run))
        service.start()
        try:
            return await talk(Client(Shortcut(service, make_app(service))))
        finally:
            service.close()

    return asyncio.run(main())


async def settled(client, task):
    while True:
        found = await client.get(f"/v1/tasks/{task}")
        if found.status == 200 and found.json["state"] != "training":
            return found.json
        await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_posted_task_is_trained_and_then_answers(growing):
    images, labels = labelled(4, 1)

    async def talk(client):
        posted = await client.post("/v1/tasks", npz(images=images, labels=labels), NPZ)
        state = await settled(client, posted.json["task"])
        answer = await client.post("/v1/classify?task=1", npz(images=images), NPZ)
        return posted, state, answer.json["answers"], await client.get("/v1/tasks/7")

    posted, state, answers, none = talking(growing, talk)
    assert (posted.status, posted.json["task"]) == (202, 1)
    assert state == {"task": 1, "state": "served", "reason": None}
    assert np.mean([one["class"] == label for one, label in zip(answers, labels, strict=True)]) > 0.8
    assert none.status == 404
    assert len(task_files(growing.layout.root.parent.parent / "arrivals")) == 2


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_arrived_before_the_server_started_is_trained_and_a_damaged_file_named(growing, tmp_path):
    images, labels = labelled(2, 1)
    Arrivals(growing).add({"images": images, "labels": labels})
    assert talking(growing, lambda client: settled(client, 1))["state"] == "served"
    (tmp_path / "arrivals" / "task-00002.npz").write_bytes(b"damaged")
    state = talking(growing, lambda client: settled(client, 2))
    assert state["state"] == "failed"
    assert "task-00002.npz" in state["reason"]


def test_a_server_that_takes_no_tasks_says_so(run):
    async def talk():
        engine = Engine(lambda before: read_generation(run, {}, before), 3600)
        service = Service(engine, Limits())
        engine.refresh()
        client = Client(make_app(service))
        return await client.post("/v1/tasks", b"{}", "application/json"), await client.get("/v1/tasks/3")

    refused, state = asyncio.run(talk())
    assert (refused.status, "--accept-tasks" in refused.json["error"]) == (403, True)
    assert json.loads(state.body) == {"task": 3, "state": "served", "reason": None}
