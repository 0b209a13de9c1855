"""What a run at work tells other processes of how far it is."""

import json

import pytest

from orchestrator.cli.status import live_words
from orchestrator.config.load import load_sweep
from orchestrator.execution.counts import Counts
from orchestrator.execution.jobs import Job, StepsDone
from orchestrator.runs import live as live_file
from orchestrator.runs.live import LiveFile, read_live
from orchestrator.runs.lock import locked
from orchestrator.runs.run import locate_run
from orchestrator.status import run_status
from orchestrator.sweep import run_sweep
from storage.layout import RunLayout
from tests.conftest import supsup
from tests.orchestrator.fakes import Recorder


def half_way(layout):
    counts = Counts(24, 0)
    counts.set_steps(Job(first=0, last=11), StepsDone(0, 1000))
    counts.set_steps(Job(first=0, last=11), StepsDone(412, 1000))
    LiveFile(layout, "training", counts).update()


def test_steps_and_time_left_are_read_by_others_until_they_are_old(tmp_path, monkeypatch):
    layout = RunLayout(tmp_path)
    half_way(layout)
    found = read_live(layout)
    assert live_words(found) == "training 0/24 tasks, step 412 of 1,000"
    assert found.per_min > 0
    assert found.left_s > 0
    monkeypatch.setattr(live_file, "OLD_S", 0.0)
    assert read_live(layout) is None
    layout.live.write_text("{")
    assert read_live(layout) is None


def test_it_is_written_now_and_then(tmp_path):
    layout, counts = RunLayout(tmp_path), Counts(24, 0)
    live = LiveFile(layout, "training", counts)
    live.update()
    counts.count(3)
    live.update()
    assert read_live(layout).num_done == 0
    live.remove()
    assert read_live(layout) is None


def test_status_shows_it_while_a_controller_is_at_work_and_a_run_leaves_none(sweep, capsys):
    config = load_sweep(sweep)
    run_sweep(config, None, Recorder())
    layout = locate_run(config).layout
    assert not layout.live.exists()
    with locked(layout):
        half_way(layout)
        capsys.readouterr()
        assert supsup("status", layout.root) == 0
        assert "training 0/24 tasks, step 412 of 1,000" in capsys.readouterr().out
        assert supsup("status", layout.root, "--json") == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["live"]["num_steps_done"] == 412
        assert row["eta_s"] == pytest.approx(row["live"]["left_s"])
    assert run_status(layout.root).live is None
