"""``supsup ui``: MLflow's server on the tracking store, on loopback only."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from dataclasses import dataclass, field
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console

from core.errors import ConfigError, SupSupError
from orchestrator.config.store_uri import absolute_uri, sqlite_path
from orchestrator.config.sweep import SweepConfig
from orchestrator.execution.ctrl_c import stop_taken
from orchestrator.report.text import print_plain
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.run import open_run
from storage.locations import Location

START_LIMIT_S = 90.0
DEFAULT_URI = "sqlite:///runs/mlflow.db"


def start_server(uri: str, port: int | None) -> tuple["subprocess.Popen[bytes]", str]:
    """Start MLflow's server, wait until it answers, and return its process and address.

    port: None picks a free one. Raises ConfigError (no such store) or SupSupError.
    """
    store = absolute_uri(uri)
    database = sqlite_path(store)
    if database is not None and not database.exists():
        raise ConfigError(f"no MLflow store at {database}; run a sweep first, or name a store with --uri")
    chosen = port if port is not None else _free_port()
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", "127.0.0.1", "--port", str(chosen), "--workers", "1"]
    if database is not None:
        command += ["--default-artifact-root", (database.parent / "mlflow-artifacts").as_uri()]
    address = f"http://127.0.0.1:{chosen}"
    # To a file: an unread pipe would fill up and block the server.
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
    """Terminate the server and its children."""
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


@dataclass(frozen=True, kw_only=True)
class Links:
    """URLs of MLflow pages. views: by name; empty if this version does not support ours. run: of the sweep."""

    runs: str
    views: dict[str, str] = field(default_factory=dict)
    run: str | None = None


def find_links(
    address: str, experiment: str | None = None, fingerprint: str | None = None, search: str | None = None
) -> Links:
    """Return the pages of an experiment, and of the run with a fingerprint or of a search, on a running server."""
    if experiment is None:
        return Links(runs=f"{address}/#/experiments")
    from orchestrator.tracking.client import connect, find_sweep
    from orchestrator.tracking.description import runs_page
    from orchestrator.tracking.search_run import find_search
    from orchestrator.tracking.views import save_views

    client = connect(address)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return Links(runs=f"{address}/#/experiments")
    run = find_sweep(client, found.experiment_id, fingerprint) if fingerprint else None
    run = find_search(client, found.experiment_id, search) if search else run
    plain = f"{address}/{runs_page(found.experiment_id)}"
    return Links(
        runs=plain,
        views={
            view.name: f"{plain}&viewStateShareKey={view.key}"
            for view in save_views(client, found.experiment_id)
        },
        run=None if run is None else plain.replace("/runs?", f"/runs/{run.info.run_id}?"),
    )


def _links_or_address(address: str, *names: str | None) -> Links:
    """Return the links, or only the address if the server does not answer as expected."""
    try:
        return find_links(address, *names)
    # The pages are useful without links to them.
    except Exception:
        return Links(runs=address)


def serve_ui(
    console: Console, root: Location | None, uri: str | None, port: int | None, *, show: bool
) -> None:
    """Start the server, print links and wait for Ctrl-C. show: open the first link in a browser."""
    run = None if root is None else open_run(root)[0]
    names = (run.config.name, run.fingerprint) if run else ()
    _serve(console, _store(uri, root, run.config) if run else uri or DEFAULT_URI, port, names, show=show)


def serve_search(
    console: Console, folder: Location, config: SweepConfig, uri: str | None, port: int | None, *, show: bool
) -> None:
    """Do the same for a search. folder: of the search. config: its sweep."""
    _serve(console, _store(uri, folder, config), port, (config.name, None, folder.name), show=show)


def _store(uri: str | None, folder: Location | None, config: SweepConfig) -> str:
    """Return the URI of the store. Raises ConfigError if there is none."""
    chosen = uri or config.tracking.uri
    if chosen is None:
        fill = supsup_command("sync", folder, "--uri", "URI", config=config)
        raise ConfigError(f"{folder} was run with tracking.uri: null; `{fill}` sends it to a store")
    return chosen


def _serve(
    console: Console, uri: str, port: int | None, names: tuple[str | None, ...], *, show: bool
) -> None:
    """Serve a store. names: of the pages to link to, as ``find_links`` takes them."""
    process, address = (None, uri) if uri.startswith("http") else start_server(uri, port)
    try:
        links = _links_or_address(address, *names)
        for name, link in {
            **links.views,
            "all runs": links.runs,
            f"this {'search' if len(names) > 2 else 'run'}": links.run,
        }.items():
            if link:
                print_plain(console, f"{name}: {link}")
        if show:
            webbrowser.open(next(iter(links.views.values()), links.runs))
        if process is not None:
            print_plain(console, "press Ctrl-C to stop")
            console.file.flush()  # a log or a pipe would show nothing until the end
            process.wait()
    except KeyboardInterrupt:
        stop_taken()
    finally:
        if process is not None:
            stop_server(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
