"""`supsup serve` as a process: what it prints, replicas that die, signals, and bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import psutil
import pytest

from orchestrator.serve.access import TOKEN
from tests.conftest import supsup, sweep_text
from tests.orchestrator.serve.conftest import npy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    path = folder / "sweep.yaml"
    path.write_text(sweep_text(folder / "runs", tracking="{uri: null}", executor="{kind: inline}"))
    assert supsup("run", path, "--quiet") == 0
    (found,) = (folder / "runs").glob("tiny-*")
    return found


class Served:
    def __init__(self, root, *options, **environment):
        command = [sys.executable, "-m", "supsup", "serve", str(root), "--port", "0", *options]
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables)
        line = self.process.stdout.readline()
        self.address = re.search(r"http://[^ ]+", line)[0]
        self.wait_until(lambda: self.get("/readyz").status == 200)

    def wait_until(self, is_so, limit_s=60):
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            try:
                if is_so():
                    return
            except (URLError, OSError):
                pass
            time.sleep(0.2)
        raise TimeoutError

    def get(self, path, body=None, **headers):
        given = {"Content-Type": "application/x-npy", **headers}
        return urlopen(Request(self.address + path, body, given), timeout=20)

    def replicas(self):
        return psutil.Process(self.process.pid).children()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


@pytest.fixture
def serving(root):
    started = []

    def serve(*options, **environment):
        started.append(Served(root, *options, **environment))
        return started[-1]

    yield serve
    for one in started:
        one.stop(signal.SIGKILL)


def answer(served, **headers):
    with served.get("/v1/classify?task=1", npy(np.zeros((1, 6, 6))), **headers) as reply:
        return json.load(reply)


def test_it_answers_and_ends_on_a_signal(serving, root):
    served = serving()
    assert answer(served)["run"] == root.name
    assert served.stop() == 0
    with pytest.raises(URLError):
        answer(served)


def test_replicas_that_die_are_started_again_and_end_with_the_parent(serving):
    served = serving("--replicas", "2")
    before = served.replicas()
    assert len(before) == 2
    before[0].kill()
    served.wait_until(lambda: len({one.pid for one in served.replicas()} - {one.pid for one in before}) == 1)
    served.wait_until(lambda: answer(served)["answers"])
    with served.get("/metrics") as reply:
        assert b"supsup_requests_total" in reply.read()
    replicas = served.replicas()
    served.stop(signal.SIGKILL)
    _, alive = psutil.wait_procs(replicas, timeout=30)
    assert not alive


def test_a_token_from_the_environment_is_asked_for(serving):
    served = serving(**{TOKEN: "secret"})
    with pytest.raises(HTTPError, match="401"):
        answer(served)
    assert answer(served, Authorization="Bearer secret")["answers"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "192.0.2.1"], "expected a token"),
        (["--token-file", "nowhere"], "cannot be read"),
        (["--shards", "2"], "--ray"),
        (["--accept-tasks"], "expected 'files'"),
        (["--objective", "X"], "objective"),
    ],
)
def test_bad_input_is_reported_before_anything_is_served(root, capsys, options, words):
    assert supsup("serve", root, *options) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_port_in_use_is_named(serving, root, capsys):
    served = serving()
    port = served.address.rpartition(":")[2]
    assert supsup("serve", root, "--port", port) == 2
    assert f"--port {port}" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # Ray Serve's own deprecations
def test_a_config_for_ray_serve(root, tmp_path, capsys):
    pytest.importorskip("watchfiles")
    path = tmp_path / "serve.yaml"
    assert (
        supsup("serve", root, "--ray", path, "--replicas", "2", "--max-replicas", "5", "--shards", "3") == 0
    )
    text = path.read_text()
    assert f"serve run {path}" in capsys.readouterr().out
    assert re.search(r"min_replicas: 2\s+max_replicas: 5", text)
    assert [f"Shard{number}" in text for number in range(4)] == [True, True, True, False]
