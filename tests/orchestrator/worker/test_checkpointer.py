"""When a job writes checkpoints, how often it reports its steps, and how it ends when the run is stopped."""

from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.execution.executor import ignore_steps
from orchestrator.execution.jobs import Job, JobStopped, StepsDone
from orchestrator.worker.checkpointer import JobCheckpointer
from storage.checkpoints import saved_steps
from storage.layout import RunLayout
from tests.orchestrator.fakes import Clock

JOB = Job(first=0, last=7)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock(now_s=1000.0)
    monkeypatch.setattr("orchestrator.worker.checkpointer.time.monotonic", clock)
    return clock


def checkpointer(folder, reports=None, is_stopping=lambda: False):
    identity = SimpleNamespace(fingerprint="f", network={"digest": "d"})
    setup = SimpleNamespace(identity=identity, layout=RunLayout(folder), save_every_s=15.0)
    report = ignore_steps if reports is None else lambda job, steps: reports.append((job, steps))
    context = SimpleNamespace(setup=setup, machine=dict, on_steps=report, is_stopping=is_stopping)
    return JobCheckpointer(context, JOB)


def test_a_stop_loses_at_most_the_interval_unless_saving_is_slow(tmp_path, clock, monkeypatch):
    found = checkpointer(tmp_path)
    clock.sleep(14.9)
    assert not found.is_due()
    clock.sleep(0.2)
    assert found.is_due()
    found.save({"x": np.zeros(3)})
    clock.sleep(15.1)
    assert found.is_due()
    slow_down(monkeypatch, found, clock, writing_s=1)
    found.save({"x": np.zeros(3)})
    clock.sleep(49)
    assert not found.is_due()  # a second of writing is one part in fifty of fifty
    clock.sleep(2)
    assert found.is_due()


def test_what_takes_too_long_to_save_at_a_stop_is_saved_every_half_minute(tmp_path, clock, monkeypatch):
    stopped = []
    found = checkpointer(tmp_path, is_stopping=lambda: bool(stopped))
    slow_down(monkeypatch, found, clock, writing_s=4)
    found.on_step(10, 100)
    found.save({"x": np.zeros(3)})
    clock.sleep(29)
    assert not found.is_due()
    clock.sleep(2)
    assert found.is_due()
    stopped.append(True)
    clock.sleep(0.1)
    found.on_step(20, 100)
    with pytest.raises(JobStopped):
        found.save({"x": np.zeros(3)})
    (path,) = (tmp_path / "saves").iterdir()
    assert saved_steps(path) == (10, 100)


def test_a_stop_makes_a_checkpoint_due_which_ends_the_job(tmp_path, clock):
    stopped = []
    found = checkpointer(tmp_path, is_stopping=lambda: bool(stopped))
    found.on_step(19, 100)
    assert not found.is_due()
    stopped.append(True)
    clock.sleep(0.1)
    found.on_step(20, 100)
    assert found.is_due()
    with pytest.raises(JobStopped):
        found.save({"x": np.arange(3)})
    (path,) = (tmp_path / "saves").iterdir()
    assert saved_steps(path) == (20, 100)
    assert checkpointer(tmp_path).load()["x"].tolist() == [0, 1, 2]


def slow_down(monkeypatch, found, clock, writing_s):
    write = type(found._checkpoint).write
    monkeypatch.setattr(
        type(found._checkpoint),
        "write",
        lambda self, arrays: (clock.sleep(writing_s), write(self, arrays)),
    )


def test_steps_are_reported_at_once_and_then_once_a_second(tmp_path, clock):
    reports = []
    found = checkpointer(tmp_path, reports)
    for number in range(30):
        found.on_step(number, 1000)
        clock.sleep(0.1)
    assert reports == [(JOB, StepsDone(number, 1000)) for number in (0, 10, 20)]
