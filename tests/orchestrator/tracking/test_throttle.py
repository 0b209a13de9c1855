"""The writer rests while workers fill the machine, and does not where a processor is free."""

from typing import NamedTuple

import pytest

import orchestrator.tracking.tracker
from orchestrator.tracking.tracker import Throttle


class Times(NamedTuple):
    user: float
    idle: float


@pytest.mark.parametrize(
    ("user_s", "idle_s", "rest_s"),
    [(20.0, 0.0, 1.9), (16.0, 4.0, 1.9), (10.0, 10.0, 0.0), (0.0, 0.0, 0.0)],
)
def test_it_works_a_twentieth_of_the_time_where_no_processor_is_free(monkeypatch, user_s, idle_s, rest_s):
    """Two processors, ten seconds: both busy, a fifth of each free, one free, and no time at all."""
    times = iter([Times(100.0, 50.0), Times(100.0 + user_s, 50.0 + idle_s)])
    monkeypatch.setattr(orchestrator.tracking.tracker.psutil, "cpu_times", lambda: next(times))
    monkeypatch.setattr(orchestrator.tracking.tracker.psutil, "cpu_count", lambda: 2)
    assert Throttle().rest_s(0.1) == pytest.approx(rest_s)
