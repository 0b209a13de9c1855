"""The process that drives Ray for a command; the other half of ``orchestrator.cluster.local_ray``."""

import os
import pickle
import select
import signal
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from core.errors import SupSupError
from orchestrator.cluster.local_ray import LOST
from orchestrator.cluster.process_session import end_session
from orchestrator.execution.jobs import Job, StepsDone


class _Driver:
    """Does the calls of a command. report: sends something to the command before the answer."""

    def __init__(self) -> None:
        self.report: Callable[[Any], None] = _ignore
        self._executor: Any = None
        self._held: Any = None
        self._steps: list[tuple[Job, StepsDone]] = []

    def start(self, address: str | None, num_cpus: int, num_threads: int, folder: Path) -> None:
        """Start Ray, or join the one at ``address``."""
        from orchestrator.cluster.connect import start_ray  # takes a second to import

        start_ray(address, num_cpus=num_cpus, num_threads=num_threads, folder=folder)

    def open(self, make_worker: Any, shared: Any, options: dict[str, Any]) -> Any:
        """Make the workers."""
        from orchestrator.cluster.executor import RayExecutor

        is_local = options["address"] is None
        self._executor = RayExecutor(make_worker, shared, has_variables=is_local, **options)
        self._executor.on_steps = lambda *report: self._steps.append(report)
        return self._answer(None)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call the executor. Raises SupSupError if one of Ray's processes has ended."""
        _require_ray()
        return self._answer(getattr(self._executor, method)(*arguments))

    def hold(self, make: Callable[..., Any], *arguments: Any) -> None:
        """Make an object that ``ask`` is to call."""
        self._held = make(*arguments)

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call the object. Raises SupSupError if one of Ray's processes has ended."""
        _require_ray()
        return getattr(self._held, method)(*arguments)

    def do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``work`` with what sends reports to the command, and the arguments."""
        return work(self.report, *arguments)

    def submit(self, job: Job, avoid: str | None) -> Any:
        """Send a job to a worker."""
        self._executor.submit(job, avoid=avoid)
        return self._answer(None)

    def end(self) -> None:
        """End Ray, or leave it, and end this process."""
        from orchestrator.cluster.connect import ray

        ray.shutdown()
        raise SystemExit

    def _answer(self, value: Any) -> tuple[Any, int, list[tuple[Job, StepsDone]]]:
        steps, self._steps = self._steps, []
        return value, self._executor.num_slots, steps


def serve(descriptor: int) -> None:
    """Do one call after another until the command is gone. descriptor: of the pipe to it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)  # SIG_IGN would be inherited by Ray's processes
    calls, driver = Connection(descriptor), _Driver()
    threading.Thread(target=_end_with_command, args=(descriptor,), daemon=True).start()
    while True:
        number = calls.recv()
        driver.report = partial(_send, calls, number, is_answer=False)
        try:
            answer = _call(driver, *pickle.loads(calls.recv_bytes()))  # noqa: S301  # from the command
        except Exception as error:  # whatever it is, the command raises it
            answer = error
        _send(calls, number, answer, is_answer=True)


def _send(calls: Connection, number: int, content: Any, *, is_answer: bool) -> None:
    calls.send_bytes(pickle.dumps((number, is_answer, content)))


def _require_ray() -> None:
    from orchestrator.cluster.connect import ended_processes

    if ended_processes():
        raise SupSupError(LOST)


def _call(driver: _Driver, method: str, arguments: tuple[Any, ...]) -> Any:
    own = getattr(driver, method, None)
    return driver.call(method, *arguments) if own is None else own(*arguments)


def _ignore(*_: Any) -> None:
    """Leave a signal to the command, which says when to stop."""


def _end_with_command(descriptor: int) -> None:
    """End this process, and Ray with it, as soon as the command has gone."""
    poll = select.poll()
    poll.register(descriptor, select.POLLHUP)
    poll.poll()
    end_session(os.getpid())
    os._exit(1)
