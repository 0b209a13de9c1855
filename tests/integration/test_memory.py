"""A whole run on a device whose memory ends: what fitted is remembered, recorded and said."""

from dataclasses import replace

import pytest
import torch

from core.training.engine import make_step
from orchestrator.config.load import load_sweep
from orchestrator.runs.record import fitting
from orchestrator.runs.run import locate_run, open_run
from orchestrator.sweep import run_sweep
from orchestrator.worker import base
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder

FOUR = "{steps: 60, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}, cohort_size: 4}"


@pytest.fixture
def tried(monkeypatch):
    """Give workers memory for two tasks; return how many were tried together, in order."""
    sizes = []

    def small(*arguments):
        step = make_step(*arguments)

        def run(pixels, gather_KD, *others):
            sizes.append(len(gather_KD))
            if len(gather_KD) > 2:
                raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")
            return step.run(pixels, gather_KD, *others)

        return replace(step, run=run)

    monkeypatch.setattr(base, "make_step", small)
    return sizes


def run(path, name, num_tasks, display=None):
    settings = [f"name={name}", f"benchmark.num_tasks={num_tasks}", "executor.engine=eager"]
    config = load_sweep(path, settings)
    assert run_sweep(config, None, display or Recorder()).is_complete
    return locate_run(config)


def digests(run):
    return run.store.info_table()["digest"].to_pylist()


def test_what_fits_is_remembered_in_the_run_and_the_masks_are_the_same(tmp_path, tried, monkeypatch):
    path, told = tmp_path / "tiny.yaml", Recorder()
    path.write_text(sweep_text(tmp_path / "runs", training=FOUR, evaluation="{scenarios: [GG]}"))
    small = run(path, "small", 7, told)
    assert tried.count(4) == 1  # once, not once in each cohort
    assert "memory ran out on" in told.messages
    assert "from now on 2 tasks of a cohort train together" in told.messages
    assert len(small.store.files()) == 2  # cohorts are stored as planned
    made_with = small.store.provenance(small.store.files()[0])
    assert (made_with["tasks_at_once"], made_with["device"]) == (2, "cpu")
    record = open_run(small.layout.root)[1]
    assert (record.cohort_size, fitting(record)) == (4, {"cpu": 2})
    tried.clear()
    grown = run(path, "small", 12)
    assert set(tried) <= {1, 2}  # also in a new session
    monkeypatch.undo()
    assert digests(grown) == digests(run(path, "large", 12))
