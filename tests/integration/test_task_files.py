"""Tasks that are files of a folder: the folder may grow, and the masks of before stay what they are."""

import json

import numpy as np
import pytest

from core.errors import ConfigError
from core.specs.benchmark import BenchmarkSpec
from orchestrator.runs.run import open_run
from storage.locations import to_location
from tests.conftest import supsup, sweep_text

FILES = {"benchmark": "{kind: files, dataset: arrivals/, num_classes: 4}", "evaluation": "{scenarios: [GG]}"}


def write_task(folder, name, num_classes, seed):
    draw = np.random.default_rng(seed)
    prototypes = draw.integers(0, 192, (num_classes, 6, 6))

    def part(num):
        labels = np.arange(num) % num_classes
        return (prototypes[labels] + draw.integers(0, 64, (num, 6, 6))).astype(np.uint8), labels

    (x_train, y_train), (x_test, y_test) = part(40 * num_classes), part(10 * num_classes)
    np.savez(folder / name, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPSUP_DATA", raising=False)
    (tmp_path / "arrivals").mkdir()
    for number, num_classes in enumerate((2, 4)):
        write_task(tmp_path / "arrivals", f"task-{number:05d}.npz", num_classes, number)
    return tmp_path


def run_of(place, storage="runs"):
    (root,) = (place / storage).glob("tiny-*")
    return open_run(to_location(str(root)))[0]


def digests(place, storage="runs"):
    return run_of(place, storage).store.info_table()["digest"].to_pylist()


def start(place, storage="runs"):
    path = place / f"{storage}.yaml"
    changes = {"tracking": "{uri: null}", "executor": "{kind: inline}", **FILES}
    path.write_text(sweep_text(place / storage, **changes))
    return supsup("run", path, "--quiet")


def test_a_task_more_leaves_the_others_as_they_are(place):
    assert start(place) == 0
    before = digests(place)
    write_task(place / "arrivals", "task-00002.npz", 3, 2)
    root = run_of(place).layout.root
    assert supsup("run", root, "benchmark.num_tasks=3", "--quiet") == 0
    assert digests(place)[:2] == before
    assert start(place, "at_once") == 0
    assert digests(place, "at_once") == digests(place)


def test_accuracy_counts_each_tasks_own_images(place):
    assert start(place) == 0
    run = run_of(place)
    tested = np.mean(run.store.info_table()["test_accuracy"].to_pylist())
    found = json.loads(run.layout.summary.read_text())["GG"]["2"]["accuracy"]
    assert found == pytest.approx(tested)


CHANGES = {
    "other data": lambda folder: write_task(folder, "task-00001.npz", 4, 9),
    "a file before the others": lambda folder: write_task(folder, "task-00000a.npz", 4, 9),
    "a file gone": lambda folder: (folder / "task-00000.npz").unlink(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_data_of_a_trained_task_are_refused(place, name, capsys):
    assert start(place) == 0
    CHANGES[name](place / "arrivals")
    assert supsup("run", run_of(place).layout.root, "--quiet") == 2
    words = " ".join(capsys.readouterr().err.split())
    assert "task" in words
    assert "arrivals/" in words


def test_data_that_came_later_are_held_to_what_they_were(place, capsys):
    assert start(place) == 0
    write_task(place / "arrivals", "task-00002.npz", 3, 2)
    root = run_of(place).layout.root
    assert supsup("run", root, "benchmark.num_tasks=3", "--quiet") == 0
    write_task(place / "arrivals", "task-00002.npz", 3, 5)
    assert supsup("run", root, "--quiet") == 2
    assert "task 2 was made from other data" in " ".join(capsys.readouterr().err.split())


def test_the_folder_says_what_is_wrong(place, capsys):
    write_task(place / "arrivals", "task-00002.npz", 5, 2)
    assert start(place) == 2
    assert "num_classes" in capsys.readouterr().err
    for path in (place / "arrivals").iterdir():
        path.unlink()
    assert start(place) == 2
    assert "0 .npz files" in capsys.readouterr().err
    (place / "arrivals").rmdir()
    assert start(place) == 2
    assert "found no folder" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"a folder of \.npz files"):
        BenchmarkSpec(kind="files", dataset="my.npz")


def test_labs_whose_folders_grew_apart_merge_as_far_as_both_had_the_same_files(place, capsys):
    assert start(place, "a") == 0
    write_task(place / "arrivals", "task-00002.npz", 3, 2)
    assert start(place, "one") == 0
    path = place / "b.yaml"
    path.write_text((place / "one.yaml").read_text().replace("/one", "/b"))
    assert supsup("run", path, "--tasks", "2", "--quiet") == 0
    a, b = run_of(place, "a").layout.root, run_of(place, "b").layout.root
    assert supsup("merge", a, b, "--out", place / "merged") == 0
    assert digests(place, "merged") == digests(place, "one")
    assert supsup("run", run_of(place, "merged").layout.root) == 0
    assert "3 tasks done; nothing to train" in capsys.readouterr().out
    write_task(place / "arrivals", "task-00000.npz", 2, 9)
    assert start(place, "other") == 0
    assert supsup("merge", a, run_of(place, "other").layout.root, "--out", place / "no") == 2
    assert "were made on different data or code: part_digests" in " ".join(capsys.readouterr().err.split())
