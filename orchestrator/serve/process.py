"""The processes of a server: one, or replicas that share its port and are started again when they die."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import ConfigError
from core.rooms import python
from orchestrator.serve.limits import Limits
from orchestrator.serve.metrics import MANY

BACKLOG = 2048
RESTART_S = 1.0  # between the death of a replica and the next, so that a fault at start does not spin
STOP_S = 15.0  # for answers under way
CHILD = "from orchestrator.serve.process import run_replica; run_replica()"


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """What a server serves, and how. root: of the run. host: that it listens at. inference: ``algorithm`` and ``objective`` that replace the run's."""

    root: str
    host: str
    inference: dict[str, str]
    limits: Limits
    token: str | None
    accepts_tasks: bool = False
    poll_s: float = 1.0

    @classmethod
    def of_json(cls, text: str) -> "ServerSpec":
        """Undo ``to_json``."""
        values = json.loads(text)
        return cls(**{**values, "limits": Limits(**values["limits"])})

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise ConfigError(f"--host {host} --port {port}: {error.strerror or error}; choose others") from error
    found.listen(BACKLOG)
    return found


def serve_here(spec: ServerSpec, listening: socket.socket) -> None:
    """Serve in this process until a signal."""
    import torch
    import uvicorn

    from orchestrator.serve.access import Guard
    from orchestrator.serve.app import make_app
    from orchestrator.serve.service import Service, Shortcut

    torch.set_num_threads(1)  # the loops over masks have threads of their own
    service = Service(make_engine(spec), spec.limits, _arrivals(spec))
    config = uvicorn.Config(
        Guard(Shortcut(service, make_app(service)), spec.token),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        proxy_headers=False,
        timeout_graceful_shutdown=int(STOP_S),
    )
    uvicorn.Server(config).run(sockets=[listening])


def served_run(spec: ServerSpec) -> Any:
    """Return the run that is served. Raises RunFolderError."""
    from orchestrator.runs.run import open_run
    from storage.locations import to_location

    return open_run(to_location(spec.root))[0]


def _arrivals(spec: ServerSpec) -> Any:
    from orchestrator.serve.arrivals import Arrivals

    return Arrivals(served_run(spec)) if spec.accepts_tasks else None


def make_engine(spec: ServerSpec) -> Any:
    """Return an engine over this machine's map of the masks."""
    from orchestrator.serve.engine import Engine
    from orchestrator.serve.generation import Generation, read_generation

    run = served_run(spec)

    def read(before: Generation | None) -> Generation:
        return read_generation(run, spec.inference, before)

    return Engine(read, spec.poll_s, is_quick=run.config.network.traits.family == "perceptron")


def serve_replicas(spec: ServerSpec, listening: socket.socket, num_replicas: int) -> None:
    """Serve in ``num_replicas`` processes, starting each again when it dies, until SIGTERM or Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="supsup-serve-") as counters:
        replicas = [_start(spec, listening, counters) for _ in range(num_replicas)]
        try:
            while True:
                time.sleep(RESTART_S)
                for number, replica in enumerate(replicas):
                    if replica.poll() is not None:
                        replicas[number] = _start(spec, listening, counters)
        finally:
            _stop(replicas)


def _start(spec: ServerSpec, listening: socket.socket, counters: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, MANY: counters}
    number = listening.fileno()
    replica = subprocess.Popen(
        python(CHILD, str(number)), stdin=subprocess.PIPE, env=environment, pass_fds=[number]
    )
    assert replica.stdin is not None, "asked for"
    replica.stdin.write(spec.to_json().encode() + b"\n")  # not an argument, which every process can read
    replica.stdin.flush()
    return replica


def _stop(replicas: list["subprocess.Popen[bytes]"]) -> None:
    for replica in replicas:
        replica.terminate()
    deadline_s = time.monotonic() + STOP_S
    for replica in replicas:
        try:
            replica.wait(max(0.1, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            replica.kill()
            replica.wait()


def run_replica() -> None:
    """Serve as a replica: the spec is on standard input, which ends with the process that started this one."""
    import threading

    spec = ServerSpec.of_json(sys.stdin.readline())

    def follow() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="parent", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    serve_here(spec, socket.socket(fileno=int(sys.argv[1])))


def check_servable(spec: ServerSpec) -> int:
    """Return the number of tasks after making the bank, so that processes only map it. Raises InputError."""
    from orchestrator.predict import check_network
    from orchestrator.serve.generation import read_generation

    run = served_run(spec)
    check_network(run)
    _arrivals(spec)
    return read_generation(run, spec.inference).num_tasks
