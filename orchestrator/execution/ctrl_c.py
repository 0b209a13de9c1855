"""Ctrl-C and SIGTERM: a flag while jobs run, which loops ask for; elsewhere KeyboardInterrupt, until it is taken.

A handler that raises in a callback of native code raises for nobody: the exception is lost, or ends the process. So
while jobs run, in this process or on workers, the first signal sets a flag, and only the second one raises. Elsewhere
the first one raises, and again after ``GRACE_S`` until ``stop_taken`` is called.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.execution.jobs import IsStopping

GRACE_S = 2.0  # for saving: Ray kills a job three seconds after it asked it to stop
PATIENCE_S = 10.0  # with jobs that do not ask, such as those that load libraries or compile
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stop:
    """A stop that the user has asked for. asked: the flag. taken: nobody has to be interrupted any more."""

    def __init__(self) -> None:
        self.asked, self.taken = threading.Event(), threading.Event()

    def insist(self, number: int, every_s: Callable[[], float]) -> None:
        """Interrupt the main thread, from a thread of its own, until the stop is taken."""

        def repeat() -> None:
            while not self.taken.wait(every_s()):
                signal.pthread_kill(threading.main_thread().ident or 0, number)

        self.asked.set()
        threading.Thread(target=repeat, name="ctrl-c", daemon=True).start()


_deferred: _Stop | None = None  # while jobs run
_raised: _Stop | None = None


def handle_stops() -> None:
    """Treat SIGTERM like Ctrl-C in this process, and lose neither. A SIGINT that is ignored stays ignored."""
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle a signal: raise KeyboardInterrupt now, and again until ``stop_taken`` is called."""
    global _raised  # noqa: PLW0603  # signals belong to the process
    if _raised is None:
        _raised = _Stop()
        _raised.insist(number, lambda: GRACE_S)
    signal.default_int_handler(number, frame)


def stop_taken() -> None:
    """Say that KeyboardInterrupt has reached those who end the run; the next signal raises it anew."""
    global _raised  # noqa: PLW0603  # signals belong to the process
    if _raised is not None:
        _raised.taken.set()
        _raised = None


@contextmanager
def defer_ctrl_c() -> "Iterator[IsStopping]":
    """Yield a function that tells whether the user has stopped the run; raise KeyboardInterrupt at the end if so.

    A second signal raises it at once, and so does a block that goes on for ``PATIENCE_S``. Signals that somebody
    else handles are left alone, and so are all of them outside the main thread. Within another one, it is the same.
    """
    global _deferred  # noqa: PLW0603  # signals belong to the process
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and _deferred is not None:
        yield _deferred.asked.is_set
        return
    stop, before = _Stop(), _our_handlers() if is_main else {}

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.asked.is_set():
            signal.default_int_handler(number, frame)
        stop.insist(number, lambda: PATIENCE_S)

    _deferred = stop if is_main else _deferred
    for number in before:
        signal.signal(number, handle)
    try:
        yield stop.asked.is_set
    finally:
        was_asked = stop.asked.is_set()
        stop.taken.set()
        _deferred = None if is_main else _deferred
        for number, handler in before.items():
            signal.signal(number, handler)
    if was_asked:
        raise KeyboardInterrupt


def _our_handlers() -> dict[signal.Signals, Callable[[int, FrameType | None], None]]:
    """Return the signals that raise KeyboardInterrupt now, with their handlers."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    ours = (signal.default_int_handler, interrupt)
    return {number: one for number, one in handlers.items() if callable(one) and one in ours}
