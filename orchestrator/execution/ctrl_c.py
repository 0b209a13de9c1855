"""Ctrl-C and SIGTERM while a job runs in this process: first the job may save where it stands."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.execution.jobs import IsStopping

GRACE_S = 2.0  # for saving: Ray kills a job three seconds after it asked it to stop
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def defer_ctrl_c() -> Iterator[IsStopping]:
    """Yield a function that tells whether the user has stopped the run; raise KeyboardInterrupt at the end if so.

    A second signal raises it at once, and so does a job that goes on for longer than ``GRACE_S``. Signals
    that somebody else handles are left alone, and so are all of them outside the main thread.
    """
    is_main = threading.current_thread() is threading.main_thread()
    ours = [one for one in SIGNALS if is_main and signal.getsignal(one) is signal.default_int_handler]
    asked, ended = threading.Event(), threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            signal.default_int_handler(number, frame)
        asked.set()

    if ours:
        threading.Thread(target=_insist, args=(asked, ended), name="ctrl-c", daemon=True).start()
    for one in ours:
        signal.signal(one, handle)
    try:
        yield asked.is_set
    finally:
        was_asked = asked.is_set()
        ended.set()
        asked.set()
        for one in ours:
            signal.signal(one, signal.default_int_handler)
    if was_asked:
        raise KeyboardInterrupt


def _insist(asked: threading.Event, ended: threading.Event) -> None:
    """Interrupt the main thread if it has not ended its job in time."""
    asked.wait()
    if not ended.wait(GRACE_S):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
