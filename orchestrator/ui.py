"""``supsup ui``: MLflow's server on the tracking store, on loopback only."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from urllib.error import URLError
from urllib.request import urlopen

from core.errors import ConfigError, SupSupError
from orchestrator.tracked import absolute_uri, sqlite_path

START_LIMIT_S = 90.0


def start_server(uri: str, port: int | None) -> tuple["subprocess.Popen[bytes]", str]:
    """Start MLflow's server and wait until it answers; return the process and its address.

    port: None takes a free one. Raises ConfigError (no such store) or SupSupError.
    """
    store = absolute_uri(uri)
    database = sqlite_path(store)
    if database is not None and not database.exists():
        raise ConfigError(f"no MLflow store at {database}; run a sweep first, or name one with --uri")
    chosen = port if port is not None else _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", "127.0.0.1", "--port", str(chosen), "--workers", "1"]
    if database is not None:
        command += ["--default-artifact-root", (database.parent / "mlflow-artifacts").as_uri()]
    address = f"http://127.0.0.1:{chosen}"
    # To a file: a pipe that nobody reads fills up and stops the server.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=_environment(chosen), stdout=log, stderr=log)
        if not _becomes_healthy(process, address):
            stop_server(process)
            log.seek(0)
            words = log.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise SupSupError(f"MLflow's server did not start at {address}: {words[-1]}")
    return process, address


def _environment(port: int) -> dict[str, str]:
    hosts = f"localhost:{port},127.0.0.1:{port},localhost,127.0.0.1"
    return {
        **os.environ,
        "MLFLOW_SERVER_ALLOWED_HOSTS": hosts,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _becomes_healthy(process: "subprocess.Popen[bytes]", address: str) -> bool:
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            with urlopen(f"{address}/health", timeout=2):
                return True
        except (URLError, OSError):
            time.sleep(0.2)
    return False


def stop_server(process: "subprocess.Popen[bytes]") -> None:
    """End the server and its children, by process id."""
    import psutil

    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(family, timeout=10)
    for member in alive:
        member.kill()
    process.wait(timeout=10)


def runs_page(address: str, experiment_id: str | None) -> str:
    """Return the link to an experiment's runs in the training view."""
    if experiment_id is None:
        return f"{address}/#/experiments"
    return f"{address}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
