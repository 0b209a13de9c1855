"""Ctrl-C while a job runs in this process: the first one is a flag, the second one ends at once."""

import ctypes
import os
import signal
import sys
import threading
import time

import pytest

from orchestrator.execution import ctrl_c
from orchestrator.execution.ctrl_c import defer_ctrl_c, handle_stops, interrupt, stop_taken


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


def test_a_job_that_does_not_ask_is_interrupted_after_a_while(monkeypatch):
    monkeypatch.setattr(ctrl_c, "PATIENCE_S", 0.1)
    start_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt), defer_ctrl_c():
        press()
        time.sleep(30)
    assert time.monotonic() - start_s < 10


def test_without_a_signal_nothing_happens_and_no_thread_is_left(monkeypatch):
    monkeypatch.setattr(ctrl_c, "PATIENCE_S", 0.1)
    before = threading.active_count()
    with defer_ctrl_c() as is_stopping:
        assert not is_stopping()
    time.sleep(0.3)  # nobody is interrupted later
    assert threading.active_count() <= before


def in_native_code(action):
    """Call ``action`` from C, which loses what it raises."""
    call = ctypes.CFUNCTYPE(None)(action)
    call()


@pytest.fixture
def lost(monkeypatch):
    """Return what callbacks have lost, which Python would print."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda event: found.append(event.exc_type))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_a_callback_loses_comes_again(sigterm, lost, monkeypatch, number):
    monkeypatch.setattr(ctrl_c, "GRACE_S", 0.1)
    handle_stops()
    with pytest.raises(KeyboardInterrupt):
        in_native_code(lambda: press(number))
        assert lost == [KeyboardInterrupt]
        time.sleep(30)
    stop_taken()
    time.sleep(0.3)  # nobody is interrupted later


def test_while_jobs_run_nothing_is_raised_in_a_callback(sigterm, lost):
    handle_stops()
    reached = []
    with pytest.raises(KeyboardInterrupt), defer_ctrl_c() as is_stopping:
        in_native_code(lambda: press(signal.SIGTERM))
        assert lost == []
        assert is_stopping()
        reached.append("end")
    assert reached == ["end"]
    assert signal.getsignal(signal.SIGTERM) is interrupt


def test_a_job_within_a_loop_asks_for_the_same_flag(sigterm):
    with pytest.raises(KeyboardInterrupt), defer_ctrl_c() as outer:
        with defer_ctrl_c() as inner:
            press()
            assert inner()
        assert outer()  # raised by the outer one alone


def test_an_ignored_ctrl_c_stays_ignored(sigterm):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handle_stops()
    press()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


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
