"""What tests of every room share: a tiny sweep that trains in under a second."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from pyarrow.fs import FileSystem

from core.specs.benchmark import BenchmarkSpec
from core.specs.network import NetworkSpec
from core.specs.run import RunSpec
from core.specs.training import OptimizerSpec, TrainingSpec

torch.set_num_threads(1)
# Ray's own 15 gives its workers next to nothing beside another process of tests.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported; 0 tests its engine on a GPU
SUPSUP = Path(sys.executable).with_name("supsup")
WITH_CTRL_C = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


MARK = "SUPSUP_TEST_PROCESS"
GOES_WITH_US = "multiprocessing.resource_tracker"  # Python's own helper of this process


SHOWN_VERSIONS = ("torch", "ray", "mlflow", "pyarrow", "playwright")


def pytest_report_header() -> str:
    """Say which versions are tested, since CI tests several of MLflow."""
    found = [f"{name} {version(name)}" for name in SHOWN_VERSIONS if find_spec(name)]
    return f"tested: {', '.join(found)}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items) -> None:
    """Where tests run in several processes: one of them has Ray, a file stays whole, the longest come first."""
    if hasattr(config, "workerinput"):
        for item in items:
            item.add_marker(pytest.mark.xdist_group(group_of(item)))
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def group_of(item: pytest.Item) -> str:
    """Return the name of the tests that have to run in the same process as this one."""
    is_slow = item.get_closest_marker("slow") is not None
    if "local_ray" in item.fixturenames or (item.get_closest_marker("ray") and not is_slow):
        return "ray"
    return item.nodeid.partition("::")[0]


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left():
    """Mark what the tests start, by an environment variable; at the end none of it runs."""
    os.environ[MARK] = uuid.uuid4().hex
    yield
    until_s = time.monotonic() + 20
    while (left := marked_processes()) and time.monotonic() < until_s:
        time.sleep(0.2)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert not left, f"tests left processes behind: {list(left.values())}"


def marked_processes() -> dict[psutil.Process, str]:
    """Return what runs with our mark in its environment, children of children too, with its command line."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get(MARK) == os.environ[MARK]:
                found[process] = " ".join(process.cmdline())
    return {one: words for one, words in found.items() if GOES_WITH_US not in words}


@pytest.fixture
def mnist_folder() -> Path:
    """Return the folder of real data, or skip."""
    folder = os.environ.get("SUPSUP_DATA")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("needs real MNIST: set SUPSUP_DATA to a folder that holds mnist/")
    return Path(folder)


def supsup(*arguments: Any) -> int:
    """Run our command in this process and return its exit code."""
    from orchestrator.cli.main import app, call

    return call(app, [str(argument) for argument in arguments])


def start_supsup(*arguments: Any) -> subprocess.Popen:
    """Start our command; see ``start``."""
    return start([SUPSUP, *map(str, arguments)])


def start(command: Sequence[Any]) -> subprocess.Popen:
    """Start a command in a process group of its own, in which Ctrl-C works.

    A suite that runs in the background of a shell ignores SIGINT, and its children inherit that.
    """
    return subprocess.Popen(
        [sys.executable, "-c", WITH_CTRL_C, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def tiny_spec(**changes: Any) -> RunSpec:
    """Return a run of the synthetic data set on a network of 36-16-8 that learns in 60 steps."""
    parts: dict[str, Any] = {
        "seed": 3,
        "benchmark": BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=4),
        "network": NetworkSpec(kind="mlp", hidden=(16,), outputs=8),
        "training": TrainingSpec(steps=60, batch_size=16, optimizer=OptimizerSpec(kind="rmsprop", lr=1e-2)),
    }
    return RunSpec(**(parts | changes))


@pytest.fixture
def spec() -> RunSpec:
    return tiny_spec()


def sweep_text(storage: Path, **changes: str) -> str:
    """Return the YAML of ``tiny_spec`` as a sweep, inline and untracked; ``changes`` replace lines."""
    lines = {
        "name": "tiny",
        "seed": "3",
        "benchmark": "{kind: permuted, dataset: synthetic, num_tasks: 4}",
        "network": "{kind: mlp, hidden: [16], outputs: 8}",
        "training": "{steps: 60, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}, cohort_size: 2}",
        "evaluation": "{scenarios: [GG], at: [2, 4]}",
        "executor": "{kind: inline}",
        "storage": f"{{uri: {storage}}}",
        "tracking": "{uri: null, figures: false}",
    }
    return "".join(f"{key}: {value}\n" for key, value in (lines | changes).items())


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Write the tiny sweep and return its path; runs go to tmp_path / "runs"."""
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text(tmp_path / "runs"))
    return path


@pytest.fixture(scope="session")
def local_ray():
    """Start Ray on loopback, once; end it with the tests."""
    from orchestrator.cluster.connect import ray, start_ray

    start_ray(None, num_cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """Start an S3-compatible server on loopback, with an empty bucket; end it with the tests."""
    log = (tmp_path_factory.mktemp("s3") / "server.log").open("wb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    os.environ.update(variables)
    try:
        wait_for_port(port, server)
        FileSystem.from_uri("s3://supsup-test/?allow_bucket_creation=true")[0].create_dir("supsup-test")
        yield variables
    finally:
        server.kill()
        server.wait()
        log.close()
        for name in variables:
            del os.environ[name]


def wait_for_port(port: int, process: subprocess.Popen, limit_s: float = 60.0) -> None:
    """Return when something listens on loopback; fail when ``process`` ends before."""
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on port {port}")


@pytest.fixture
def s3_storage(s3_server) -> str:
    """Return a storage.uri of its own for each test."""
    return f"s3://supsup-test/{uuid.uuid4().hex[:12]}"
