"""When a cohort writes checkpoints, and how often it reports its steps."""

from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.execution.jobs import Job, StepsDone
from orchestrator.worker.supermasks import CohortCheckpointer
from storage.layout import RunLayout
from tests.orchestrator.fakes import Clock

JOB = Job(first=0, last=7)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock(now_s=1000.0)
    monkeypatch.setattr("orchestrator.worker.supermasks.time.monotonic", clock)
    return clock


def checkpointer(folder, reports=None):
    identity = SimpleNamespace(fingerprint="f", network={"digest": "d"})
    setup = SimpleNamespace(identity=identity, layout=RunLayout(folder), save_every_s=15.0)
    report = [].append if reports is None else lambda job, steps: reports.append((job, steps))
    return CohortCheckpointer(SimpleNamespace(setup=setup, machine=dict, on_steps=report), JOB)


def test_a_stop_loses_at_most_the_interval_unless_saving_is_slow(tmp_path, clock, monkeypatch):
    found = checkpointer(tmp_path)
    clock.sleep(14.9)
    assert not found.is_due()
    clock.sleep(0.2)
    assert found.is_due()
    found.save({"x": np.zeros(3)})
    clock.sleep(15.1)
    assert found.is_due()
    write = found._checkpoint.write
    monkeypatch.setattr(
        type(found._checkpoint), "write", lambda self, arrays: (clock.sleep(2), write(arrays))
    )
    found.save({"x": np.zeros(3)})
    clock.sleep(99)
    assert not found.is_due()  # two seconds of writing are one part in fifty of a hundred
    clock.sleep(2)
    assert found.is_due()


def test_steps_are_reported_at_once_and_then_once_a_second(tmp_path, clock):
    reports = []
    found = checkpointer(tmp_path, reports)
    for number in range(30):
        found.on_step(number, 1000)
        clock.sleep(0.1)
    assert reports == [(JOB, StepsDone(number, 1000)) for number in (0, 10, 20)]
