"""Measure `supsup serve` over HTTP with wrk, beside MLflow's own server and the dense network alone.

python perf/serving.py RUN [--replicas N] [--seconds S] [--mlflow URI]

RUN: of permuted MNIST (SUPSUP_DATA). Tasks are mixed uniformly, every image is a test image as its task sees it.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import psutil
from cases import mnist, versions
from serving_requests import BATCH, lua_of, make_bodies

from core.rooms import python
from orchestrator.runs.record import processor
from orchestrator.runs.run import open_run
from storage.locations import to_location

READY_S = 120


@dataclass(frozen=True, kw_only=True)
class Load:
    """What wrk measured. failed: answers that were no 200, and sockets that broke."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int

    def row(self, name: str, connections: int, num_images: int) -> str:
        """Return a row of the table."""
        return (
            f"| {name} | {connections} | {self.requests_per_s:,.0f} | {self.requests_per_s * num_images:,.0f} | "
            f"{self.p50_ms:.1f} | {self.p99_ms:.1f} | {self.failed} |"
        )


HEAD = (
    "| what | connections | requests a second | images a second | p50, ms | p99, ms | failed |\n"
    + "| --- " * 7
    + "|"
)


def main() -> None:
    """Measure each kind of request and print a row for it."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("run", type=Path)
    words.add_argument("--replicas", type=int, default=1)
    words.add_argument("--seconds", type=int, default=10)
    words.add_argument(
        "--mlflow", metavar="URI", help="MLflow's store that has the run; supsup sync sends it"
    )
    given = words.parse_args()
    run, _ = open_run(to_location(given.run))
    dataset, _ = mnist(Path(os.environ["SUPSUP_DATA"]))
    num_tasks = run.store.locate().num_leading
    print(
        f"{processor()}, {len(os.sched_getaffinity(0))} cores, {versions()}; {num_tasks} tasks, {given.replicas} replicas\n"
    )
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bodies = make_bodies(Path(folder), run, dataset, num_tasks)
        with supsup_server(given.run, given.replicas) as address:
            for name, kind, connections, num_images in (
                ("task given, one image", "given-one", 1, 1),
                ("task given, one image", "given-one", 16, 1),
                ("task given, one image", "given-one", 64, 1),
                (f"task given, {BATCH} images", "given-many", 4, BATCH),
                ("task unknown, one image", "unknown-one", 1, 1),
                ("task unknown, one image", "unknown-one", 16, 1),
                ("task unknown, 64 images", "unknown-many", 2, 64),
            ):
                print(
                    load(address, lua_of(bodies, kind), connections, given.seconds).row(
                        name, connections, num_images
                    ),
                    flush=True,
                )
        with dense_server(given.run) as address:
            for connections, kind, num in (
                (1, "given-one", 1),
                (16, "given-one", 1),
                (4, "given-many", BATCH),
            ):
                found = load(address, lua_of(bodies, kind), connections, given.seconds)
                print(found.row(f"dense network alone, {num} images", connections, num), flush=True)
        if given.mlflow:
            with mlflow_server(given.run, given.mlflow) as address:
                for connections, kind in (
                    (1, "mlflow-given"),
                    (16, "mlflow-given"),
                    (1, "mlflow-unknown"),
                    (16, "mlflow-unknown"),
                ):
                    found = load(address, lua_of(bodies, kind), connections, given.seconds)
                    print(found.row(f"MLflow's server, {kind[7:]}, one image", connections, 1), flush=True)


def load(address: str, script: Path, connections: int, seconds: int) -> Load:
    """Return what wrk measured, after a second that does not count."""
    command = ["wrk", "-t1", f"-c{connections}", "--timeout", "20s", "--latency", "-s", str(script), address]
    for duration in (1, seconds):
        done = subprocess.run([*command, f"-d{duration}s"], capture_output=True, text=True, check=True)
    text = done.stdout
    found = {name: re.search(pattern, text) for name, pattern in PATTERNS.items()}
    broken = sum(int(word) for word in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    groups = {name: one.groups() if one else ("0", "ms") for name, one in found.items()}
    return Load(
        requests_per_s=float(groups["rate"][0]),
        p50_ms=_ms(*groups["p50"]),
        p99_ms=_ms(*groups["p99"]),
        failed=broken + int(groups["bad"][0]),
    )


PATTERNS = {
    "rate": r"Requests/sec:\s+([\d.]+)",
    "p50": r"50%\s+([\d.]+)(us|ms|s)",
    "p99": r"99%\s+([\d.]+)(us|ms|s)",
    "bad": r"Non-2xx or 3xx responses: (\d+)",
}


def _ms(value: str, unit: str) -> float:
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


@contextmanager
def served(command: list[str], ready: str, **environment: str) -> Iterator[None]:
    """Run a server until the end of the context; begin when ``ready`` answers."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        try:
            deadline_s = time.monotonic() + READY_S
            while not _answers(ready):
                if process.poll() is not None or time.monotonic() > deadline_s:
                    log.seek(0)
                    raise SystemExit(f"no answer at {ready}: {log.read().decode()[-2000:]}")
                time.sleep(0.5)
            yield
        finally:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for member in family:
                member.terminate()
            psutil.wait_procs(family, timeout=20)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2):  # noqa: S310  # our own server on loopback
            return True
    except (URLError, OSError):
        return False


@contextmanager
def supsup_server(run: Path, replicas: int, port: int = 8651) -> Iterator[str]:
    """Serve a run; the address."""
    command = [
        sys.executable,
        "-m",
        "supsup",
        "serve",
        str(run),
        "--port",
        str(port),
        "--replicas",
        str(replicas),
    ]
    with served(command, f"http://127.0.0.1:{port}/readyz"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def dense_server(run: Path, port: int = 8652) -> Iterator[str]:
    """Serve the base network without masks: the same server, with one product of a batch and the weights."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import serving_dense; serving_dense.main({str(run)!r}, {port})"
    with served(python(code), f"http://127.0.0.1:{port}/readyz"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def mlflow_server(run: Path, uri: str, port: int = 8653) -> Iterator[str]:
    """Serve the same run as an MLflow model by MLflow's own server."""
    export = [sys.executable, "-m", "supsup", "export", str(run), "--mlflow", "--uri", uri]
    printed = subprocess.run(export, capture_output=True, text=True, check=True).stdout
    model = shlex.split(printed.strip().splitlines()[-1])[5]
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", model]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    with served(command, f"http://127.0.0.1:{port}/ping", MLFLOW_TRACKING_URI=uri):
        yield f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
