"""A Ray for one command, of this machine or a cluster that it joins, and the executor on it.

Ray ends the process that drives it, without a word, once its raylet or the cluster's head is gone. So the driver is a
process of its own (``orchestrator.cluster.driver``), which starts while the command loads and checks other things. The
command sends it calls, one at a time, and lives on when it ends.
"""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from types import TracebackType
from typing import Any, Self

from core.errors import SupSupError, WorkerError
from core.rooms import python
from orchestrator.cluster.process_session import end_session
from orchestrator.cluster.ray_folder import make_ray_folder
from orchestrator.execution.executor import WorkerFactory, ignore_steps
from orchestrator.execution.jobs import Attempt, Job, ReportSteps

# With the modules that this process finds; Ray passes the folder of the script on to its workers.
DRIVER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "descriptor = int(sys.argv[2]); sys.argv[:] = sys.argv[3:]; "
    "from orchestrator.cluster.driver import serve; serve(descriptor)"
)
CLOSE_S = 15.0  # to end Ray
LOST = (
    "lost the Ray of this machine: one of its processes has ended, as when memory is short; finished work is kept; "
    "run the same command again"
)
LOST_CLUSTER = (
    "lost the Ray cluster at {}: its head, or this machine's part of it, is gone; finished work is kept; "
    "run the same command again"
)


class _DriverEndedError(Exception):
    """The other end of the pipe is closed."""


class LocalRay:
    """A Ray that starts in, or is joined by, a process of its own, which ends with this one.

    address: of the cluster to join; None starts one with ``num_cpus``. num_threads: of a worker's libraries.
    """

    def __init__(self, *, num_cpus: int, num_threads: int, address: str | None = None) -> None:
        self._address, self._folder = address, make_ray_folder()
        self._calls, theirs = Pipe()
        words = python(DRIVER, json.dumps(sys.path), str(theirs.fileno()), sys.argv[0])
        # In a session of its own, so that Ctrl-C reaches this process alone, and whatever Ray leaves can be found.
        self._process = subprocess.Popen(  # noqa: S603  # our own words
            words,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self._num_sent, self._is_idle, self._has_started, self._is_closed = 0, True, False, False
        with suppress(_DriverEndedError):  # whoever waits is told
            self._send("start", address, num_cpus, num_threads, self._folder)

    def wait(self) -> None:
        """Return once Ray can be used. Raises WorkerError if it did not start."""
        if self._has_started:
            return
        try:
            self._receive()
        except _DriverEndedError as error:
            what = (
                "Ray did not start on this machine"
                if self._address is None
                else f"Ray at {self._address} was not joined"
            )
            raise WorkerError(f"{what} (its driver has ended); run the same command again") from error
        self._has_started = True

    def call(self, method: str, *arguments: Any, on_report: Callable[[Any], None] | None = None) -> Any:
        """Return the driver's answer, or raise its error. Raises SupSupError if Ray is lost.

        on_report: called with what the driver reports before it answers.
        """
        self.wait()
        try:
            self._send(method, *arguments)
            return self._receive(on_report)
        except _DriverEndedError as error:
            raise SupSupError(
                LOST if self._address is None else LOST_CLUSTER.format(self._address)
            ) from error

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way, as one that Ctrl-C has interrupted."""
        return self._is_idle and self._has_started

    def _send(self, method: str, *arguments: Any) -> None:
        self._is_idle = False
        self._num_sent += 1
        try:
            self._calls.send(self._num_sent)
            # By itself: what cannot be read there has a number. Not ``send``, which shares tensors, file by file.
            self._calls.send_bytes(pickle.dumps((method, arguments)))
        except OSError as error:
            raise _DriverEndedError from error

    def _receive(self, on_report: Callable[[Any], None] | None = None) -> Any:
        """Return the answer to the last call; those before it were given up."""
        number, is_answer, answer = 0, False, None
        try:
            while not (is_answer and number == self._num_sent):
                number, is_answer, answer = pickle.loads(self._calls.recv_bytes())  # noqa: S301  # our own process
                if on_report is not None and not is_answer and number == self._num_sent:
                    on_report(answer)
        except (EOFError, OSError) as error:
            raise _DriverEndedError from error
        self._is_idle = True
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End Ray, or leave it; may be called twice. One that is busy or still starting is ended at once."""
        if self._is_closed:
            return
        with suppress(_DriverEndedError, subprocess.TimeoutExpired):
            if self._process.poll() is None and self.is_idle:
                self._send("end")
                self._process.wait(CLOSE_S)
        self._calls.close()
        self._process.kill()
        end_session(self._process.pid)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LocalExecutor:
    """Implements the contract of ``orchestrator.execution.executor`` by calls to the driver of a Ray.

    owns: whether to end Ray with it. options: of ``RayExecutor``.
    """

    def __init__(
        self, local: LocalRay, make_worker: WorkerFactory, shared: Any, *, owns: bool, **options: Any
    ) -> None:
        self._local, self._owns = local, owns
        self.on_steps: ReportSteps = ignore_steps
        self.num_slots = 0
        self._call("open", make_worker, shared, options)

    def _call(self, method: str, *arguments: Any) -> Any:
        value, self.num_slots, steps = self._local.call(method, *arguments)
        for one in steps:
            self.on_steps(*one)
        return value

    def shortage(self) -> str:
        """Return a sentence with what a worker requires and what this machine has."""
        return str(self._call("shortage"))

    def dismiss(self, worker: str) -> None:
        """Replace an idle worker."""
        self._call("dismiss", worker)

    def submit(self, job: Job, *, avoid: str | None = None) -> None:
        """Send ``job`` to an idle worker."""
        self._call("submit", job, avoid)

    def collect(self, timeout_s: float) -> list[Attempt]:
        """Return the attempts that ended; wait up to ``timeout_s`` for the first."""
        found: list[Attempt] = self._call("collect", timeout_s)
        return found

    def stop(self, limit_s: float) -> None:
        """Let running jobs save and end."""
        if self._local.is_idle:
            with suppress(SupSupError):
                self._call("stop", limit_s)

    def close(self) -> None:
        """End the workers, without waiting for their jobs."""
        if self._owns:
            self._local.close()
        elif self._local.is_idle:
            with suppress(SupSupError):
                self._call("close")
