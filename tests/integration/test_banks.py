"""Two labs on the digits: their banks merged, a task forgotten, the rest pushed and pulled, as one lab's would be."""

import hashlib
import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.conftest import supsup, sweep_text

SWEEP = {
    "benchmark": "{kind: permuted, dataset: digits, num_tasks: 6}",
    "network": "{kind: lenet_300_100, outputs: 50}",
    "training": "{steps: 150, batch_size: 128, optimizer: {kind: rmsprop, lr: 1.0e-3}}",
    "evaluation": "{scenarios: [GG, GNu], at: [3, 6]}",
}


@pytest.fixture
def lab(tmp_path):
    """Return a function that trains some tasks in a storage folder, and returns the run folder."""
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(sweep_text(tmp_path / "unused", **SWEEP))

    def train(name, *options):
        settings = [f"storage.uri={tmp_path / name}", *options]
        assert supsup("run", sweep, *settings, "--quiet") == 0
        (run_file,) = (tmp_path / name).glob("*/run.json")
        return run_file.parent

    return train


def made(root):
    """Return the sha256 of every table of a run, and its summary."""
    tables = sorted((root / "evaluations").glob("*.parquet"))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tables}
    return found, json.loads((root / "report" / "summary.json").read_text())


def answers(root, tmp_path, capsys):
    """Return what `supsup infer` says of digits, as they are and turned."""
    digits = load_digits().images[:12].astype(np.uint8)
    np.save(tmp_path / "images.npy", np.concatenate([digits, digits[:, ::-1]]))
    capsys.readouterr()
    assert supsup("infer", root, tmp_path / "images.npy", "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_two_labs_are_one_and_a_forgotten_task_was_never_there(lab, tmp_path, capsys):
    one = lab("one")
    a, b = lab("a", "--tasks", "0-2", "training.cohort_size=2"), lab("b", "--tasks", "3-5")
    assert supsup("merge", a, b, "--out", tmp_path / "merged") == 0
    merged = tmp_path / "merged" / one.name
    assert supsup("run", merged, "--quiet") == 0
    assert made(merged) == made(one)
    assert answers(merged, tmp_path, capsys) == answers(one, tmp_path, capsys)

    never = lab("never", "--tasks", "0-3,5")
    for root in (merged, never):
        assert supsup("forget", root, "--task", 4, "--quiet") == 0
    assert supsup("run", never, "--quiet") == 0
    assert made(merged) == made(never) != made(one)
    assert made(merged)[0]["GNu-one_shot-G-1-3.parquet"] == made(one)[0]["GNu-one_shot-G-1-3.parquet"]
    assert answers(merged, tmp_path, capsys) == answers(never, tmp_path, capsys)

    assert supsup("push", merged, tmp_path / "store") == 0
    assert supsup("pull", merged.name, tmp_path / "store", "--storage", tmp_path / "pulled") == 0
    pulled = tmp_path / "pulled" / merged.name
    assert supsup("verify", pulled) == 0
    assert answers(pulled, tmp_path, capsys) == answers(merged, tmp_path, capsys)
