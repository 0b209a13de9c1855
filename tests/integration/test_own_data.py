"""The user's own arrays in whole runs: what is found in them, resumed, edited, and wrong."""

import numpy as np
import pytest

from core.data.datasets import load_dataset
from core.own_code.permission import ALLOW_CODE
from orchestrator.runs.run import open_run
from storage.layout import RunLayout
from storage.locations import to_location
from storage.run_file import read_run
from tests.conftest import start_supsup, supsup, sweep_text
from tests.integration.test_crash import kill_after_a_mask

BENCHMARK = "{kind: KIND, dataset: my.npz, num_tasks: 2}"


def save(place, seed=0):
    """Write the images of the synthetic data set, which are easy to learn, with noise of this seed."""
    data = load_dataset("synthetic")
    noise = np.random.default_rng(seed).integers(0, 3, (6, 6)).astype(np.uint8)
    np.savez(
        place / "my.npz",
        x_train=data.train_images + noise,
        y_train=data.train_labels,
        x_test=data.test_images + noise,
        y_test=data.test_labels,
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPSUP_DATA", raising=False)
    save(tmp_path)
    return tmp_path


def sweep(place, kind="permuted", **lines):
    path = place / "tiny.yaml"
    lines = {"evaluation": "{scenarios: [GG], at: [1, 2]}", "executor": "{kind: inline}"} | lines
    path.write_text(sweep_text(place / "runs", **({"benchmark": BENCHMARK.replace("KIND", kind)} | lines)))
    return path


def record_of(place):
    (root,) = (place / "runs").glob("tiny-*")
    return read_run(RunLayout(root))


@pytest.mark.parametrize("kind", ["permuted", "rotated", "split"])
def test_a_sweep_over_own_arrays_finds_their_classes_and_shape(place, kind):
    assert supsup("run", sweep(place, kind), "--quiet") == 0
    record = record_of(place)
    assert record.config["benchmark"]["num_classes"] == 4
    assert record.config["benchmark"]["shape"] == [6, 6]
    assert record.provenance["dataset_digest"]


def test_plan_counts_what_it_found(place, capsys):
    assert supsup("plan", sweep(place)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "my.npz: 4 classes, 512 training and 200 test images of 6 x 6" in shown


def test_a_run_goes_on_with_the_same_data_and_refuses_edited_ones(place, capsys):
    path = sweep(place)
    assert supsup("run", path, "--quiet") == 0
    save(place)
    assert supsup("run", path, "benchmark.num_tasks=3", "--quiet") == 0
    save(place, seed=1)
    (root,) = (place / "runs").glob("tiny-*")
    capsys.readouterr()
    for verb, more in (("run", [path]), ("run", [root]), ("evaluate", [root])):
        assert supsup(verb, *more) == 2
        assert "was made with my.npz of digest" in " ".join(capsys.readouterr().err.split())


def test_a_run_is_shown_without_its_data(place, capsys):
    assert supsup("run", sweep(place), "--quiet") == 0
    (place / "my.npz").unlink()
    (root,) = (place / "runs").glob("tiny-*")
    assert supsup("status", root) == 0
    assert supsup("verify", root) == 0
    assert supsup("run", root) == 2
    assert "found no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"benchmark": "{kind: permuted, dataset: other.npz, num_tasks: 2}"}, "found no"),
        (
            {"benchmark": "{kind: permuted, dataset: my.npz, num_tasks: 2, num_classes: 5}"},
            "expected 5",
        ),
        ({"network": "{kind: mlp, hidden: [8], outputs: 3}"}, "at least 4, the classes of my.npz"),
        ({"benchmark": "{kind: split, dataset: my.npz, num_tasks: 3}"}, "at most 2: my.npz has 4 classes"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_what_does_not_fit_is_refused_before_anything_is_written(place, capsys, verb, lines, words):
    assert supsup(verb, sweep(place, **lines)) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert words in shown
    assert "bug in supsup" not in shown
    assert not (place / "runs").exists()


SEQUENCE = (
    "{kind: sequence, parts: [{kind: split, dataset: my.npz}, {kind: whole, dataset: digits},"
    " {kind: rotated, dataset: my.npz, num_tasks: 1}]}"
)
IN_A_SEQUENCE = {
    "benchmark": SEQUENCE,
    "network": "{kind: conv4, outputs: 10}",
    "mask": "{rule: top_k, density: 0.3}",
    "training": "{steps: 4, batch_size: 8, optimizer: {kind: adam, lr: 1.0e-3}}",
    "evaluation": "{scenarios: [GG]}",
}


def test_a_sequence_grows_to_the_masks_that_it_has_at_once(place):
    def masks(storage, *steps):
        for num_tasks in steps:
            settings = [
                f"storage.uri={place / storage}",
                *([f"benchmark.num_tasks={num_tasks}"] * bool(num_tasks)),
            ]
            assert supsup("run", path, *settings, "--quiet") == 0
        (root,) = (place / storage).glob("tiny-*")
        run, record = open_run(to_location(str(root)))
        assert record.num_tasks == 4
        files = run.store.locate()
        return [stored.bits for stored in run.store.iterate(range(4), files)]

    path = sweep(place, **IN_A_SEQUENCE)
    assert masks("at-once", 0) == masks("grown", 1, 3, 0)


def test_an_edited_part_of_a_sequence_is_refused_and_plan_lists_its_tasks(place, capsys):
    path = sweep(place, **IN_A_SEQUENCE)
    assert supsup("plan", path) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "tasks 0 to 1: my.npz, split, 2 classes each, from 512 training and 200 test images" in shown
    assert supsup("run", path, "--quiet") == 0
    save(place, seed=1)
    assert supsup("run", path) == 2
    assert "was made with my.npz + digits + my.npz of digest" in " ".join(capsys.readouterr().err.split())


def test_a_wrong_key_of_a_part_is_named(place, capsys):
    wrong = SEQUENCE.replace("kind: whole", "kind: whole, clases: 2")
    assert supsup("plan", sweep(place, **(IN_A_SEQUENCE | {"benchmark": wrong}))) == 2
    assert "benchmark.parts[1].clases: unknown key" in " ".join(capsys.readouterr().err.split())


NET = """
from torch import nn

def small(outputs, image_shape):
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 16), nn.ReLU(), nn.Linear(16, outputs))
"""
RAY = "{kind: ray, workers: 1}"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_sequence_over_own_arrays_and_an_own_network_survives_sigkill(place, monkeypatch):
    """Killed in this process's child and on Ray, with the same masks as undisturbed."""
    monkeypatch.setenv(ALLOW_CODE, "1")
    (place / "own_seq_net.py").write_text(NET)
    lines = IN_A_SEQUENCE | {
        "network": '{kind: module, import_path: "own_seq_net:small", outputs: 10}',
        "training": "{steps: 1500, batch_size: 32, optimizer: {kind: adam, lr: 1.0e-3}, cohort_size: 1}",
    }
    expected = undisturbed(sweep(place, **lines), place / "whole")
    for name, executor in (("inline", "{kind: inline}"), ("ray", RAY)):
        path = sweep(place, executor=executor, **lines)
        assert kill_after_a_mask(path, place / name) < 4
        assert undisturbed(path, place / name) == expected


def undisturbed(path, storage):
    """Run a sweep in ``storage`` to its end; return the digests of its masks."""
    process = start_supsup("run", path, f"storage.uri={storage}", "--plain")
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    (root,) = storage.glob("tiny-*")
    run, _ = open_run(to_location(str(root)))
    return run.store.info_table()["digest"].to_pylist()
