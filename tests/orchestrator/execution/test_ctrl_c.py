"""Ctrl-C while a job runs in this process: the first one is a flag, the second one ends at once."""

import os
import signal
import threading
import time

import pytest

from orchestrator.execution import ctrl_c
from orchestrator.execution.ctrl_c import defer_ctrl_c


def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # handlers run between two instructions


@pytest.fixture
def sigterm():
    """Treat SIGTERM as the command line does, and SIGINT as Python, whatever a shell in the background does."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_goes_on_until_it_has_saved(sigterm, number):
    saved = []
    with pytest.raises(KeyboardInterrupt), defer_ctrl_c() as is_stopping:
        assert not is_stopping()
        press(number)
        assert is_stopping()
        saved.append("all")
    assert saved == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_one_ends_at_once(sigterm):
    reached = []
    with pytest.raises(KeyboardInterrupt), defer_ctrl_c():
        press()
        reached.append(1)
        press(signal.SIGTERM)
        reached.append(2)
    assert reached == [1]


def test_a_job_that_does_not_ask_is_interrupted_after_the_grace(monkeypatch):
    monkeypatch.setattr(ctrl_c, "GRACE_S", 0.1)
    start_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt), defer_ctrl_c():
        press()
        time.sleep(30)
    assert time.monotonic() - start_s < 10


def test_without_a_signal_nothing_happens_and_no_thread_is_left(monkeypatch):
    monkeypatch.setattr(ctrl_c, "GRACE_S", 0.1)
    before = threading.active_count()
    with defer_ctrl_c() as is_stopping:
        assert not is_stopping()
    time.sleep(0.3)  # nobody is interrupted later
    assert threading.active_count() == before


def test_the_handler_of_somebody_else_stays():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("theirs"))
    try:
        with defer_ctrl_c() as is_stopping:
            press()
            assert not is_stopping()
        assert seen == ["theirs"]
    finally:
        signal.signal(signal.SIGINT, before)
