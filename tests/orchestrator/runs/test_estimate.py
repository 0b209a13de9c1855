"""Estimates come from runs like the one planned, or say that there is none; planning writes nothing."""

import re

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.estimate import estimate_run, read_earlier
from orchestrator.runs.run import locate_run
from tests.conftest import supsup, sweep_text


def estimate(path, *settings):
    config = load_sweep(path, settings)
    return estimate_run(locate_run(config), read_earlier(config), on_gpu=False)


def test_without_a_run_like_it_time_is_unknown_or_rough_and_says_so(sweep):
    small = estimate(sweep)
    assert small.task_s is None
    assert "no run like it" in small.basis
    large = estimate(sweep, "network.hidden=[2000]")
    low, high = large.task_s
    assert 0 < low < high
    assert "docs/scaling.md" in large.basis
    assert estimate(sweep, "network.kind=conv4", "network.hidden=null").task_s is None


def test_time_and_bytes_are_those_of_a_run_like_it_scaled_by_the_steps(sweep):
    assert supsup("run", sweep) == 0
    infos = locate_run(load_sweep(sweep)).store.facts().infos()
    found = estimate(sweep, "training.steps=120", "seed=9", "training.optimizer.lr=0.5")
    seconds = [2 * info.train_seconds for info in infos]
    assert found.task_s == (pytest.approx(min(seconds)), pytest.approx(max(seconds)))
    assert re.match(r"measured on 4 tasks of tiny-\w{8}, ", found.basis)
    assert found.table_bytes > 0
    stored = sum(path.stat().st_size for path in locate_run(load_sweep(sweep)).layout.masks.iterdir())
    low, high = found.mask_bytes
    assert 0.5 * stored < 4 * low <= 4 * high < 2 * stored


@pytest.mark.parametrize(
    "setting", ["network.hidden=[20]", "training.batch_size=8", "training.optimizer.kind=adam"]
)
def test_a_run_of_other_work_is_no_measure(sweep, setting):
    assert supsup("run", sweep) == 0
    assert "no run like it" in estimate(sweep, setting).basis


def test_a_sparse_mask_takes_between_its_entropy_and_its_bits(sweep):
    dense, sparse = (
        estimate(sweep).mask_bytes,
        estimate(sweep, "mask.rule=top_k", "mask.density=0.02").mask_bytes,
    )
    assert dense[0] == dense[1] == sparse[1]
    assert sparse[0] < sparse[1]


def test_plan_takes_a_run_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "tiny.yaml").write_text(sweep_text("my runs"))
    assert supsup("run", "tiny.yaml") == 0
    (root,) = (path.parent for path in tmp_path.glob("my runs/*/run.json"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert supsup("plan", root) == 0
    assert "nothing to train" in capsys.readouterr().out
    assert supsup("plan", root.name, "--storage", "my runs", "benchmark.num_tasks=8") == 0
    shown = capsys.readouterr().out
    assert "8: 4 done, 4 to train" in shown
    assert re.search(r"time to train .* on 1 worker", shown)
    assert supsup("plan", root, "training.steps=7") == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_streams_and_baselines_are_not_estimated(sweep, capsys):
    assert supsup("plan", sweep, "baseline.kind=psp") == 0
    assert "not estimated" in capsys.readouterr().out
