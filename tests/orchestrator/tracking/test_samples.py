"""Samples of the machine's load in MLflow."""

from types import SimpleNamespace

import orchestrator.tracking.runs
from orchestrator.tracking.runs import MlflowRun


def test_two_samples_of_one_second_are_one_point_whenever_they_are_sent(monkeypatch):
    """The last one of a session and a regular one can be that close."""
    sent = []
    monkeypatch.setattr(
        orchestrator.tracking.runs, "log_metrics", lambda client, run_id, new: sent.extend(new)
    )
    samples = [{"time_s": 100.2, "load": 1.0}, {"time_s": 100.9, "load": 2.0}, {"time_s": 110.0, "load": 3.0}]
    for there in (1, 2, 3):
        run = MlflowRun(None, SimpleNamespace(created_s=90.0), "run", set(), None)
        for num in (1, there):  # the same session, then what has come since
            run.log_samples(samples[:num])
    assert {(point.step, point.value) for point in sent} == {(10, 1.0), (20, 3.0)}
