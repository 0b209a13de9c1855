"""A Ray of one command: private, on loopback, and its end is an error that the command lives through."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from core.errors import ConfigError, SupSupError
from orchestrator.cluster import local_ray, ray_folder
from orchestrator.cluster.local_ray import LocalExecutor, LocalRay
from orchestrator.cluster.process_session import end_session
from orchestrator.cluster.ray_folder import MAX_BYTES, OPEN, make_ray_folder
from tests.conftest import marked_processes
from tests.orchestrator.fakes import Misbehaving

OPTIONS = {"num_workers": 1, "gpus_per_worker": 0, "threads_per_worker": 1, "address": None}


TEMPORARY = Path("/tmp")  # noqa: S108  # Ray's folder must have a short path


@pytest.fixture
def short(monkeypatch):
    """Give a folder of this test alone, where Ray's folder goes if others have too long a path."""
    with tempfile.TemporaryDirectory(dir=TEMPORARY) as folder:
        monkeypatch.setattr(ray_folder, "SHORT", folder)
        yield Path(folder)


def processes_of_ray():
    return {one.name(): one for one in psutil.Process().children(recursive=True)}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_local_ray_is_private_and_its_end_is_told(tmp_path, monkeypatch, short):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 30)))  # longer than a socket's address can be
    with LocalRay(num_cpus=1, num_threads=1) as local:
        executor = LocalExecutor(local, Misbehaving, tmp_path, owns=False, **OPTIONS)
        while not executor.num_slots:
            executor.collect(1.0)
        (folder,) = short.glob("supsup-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert any(folder.glob("*/session_*/logs"))
        listening = [
            address.laddr.ip
            for process in processes_of_ray().values()
            for address in process.net_connections("tcp")
            if address.status == psutil.CONN_LISTEN
        ]
        assert listening
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
        processes_of_ray()["raylet"].kill()
        with pytest.raises(SupSupError, match="lost the Ray of this machine"):
            collect_for(executor, 60)
        executor.close()
    assert not folder.exists()


def collect_for(executor, limit_s):
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        executor.collect(0.2)


@pytest.mark.ray
def test_a_driver_that_ends_while_it_starts_is_told():
    others = psutil.Process().children()
    with LocalRay(num_cpus=1, num_threads=1) as local:
        (driver,) = set(psutil.Process().children()).difference(others)
        driver.kill()
        with pytest.raises(SupSupError, match="Ray did not start on this machine"):
            local.wait()
    local.close()  # may be called twice


# Like an agent or a worker that has just begun, and cannot see yet that the rest of Ray is gone.
LATE = "import subprocess; subprocess.Popen(['sleep', '60.25'], process_group=0); "
COMMAND = f"""
from orchestrator.cluster import local_ray
local_ray.DRIVER = {LATE!r} + local_ray.DRIVER
ray = local_ray.LocalRay(num_cpus=1, num_threads=1)
input()
"""


@pytest.mark.ray
def test_a_ray_that_is_ended_while_it_starts_leaves_no_process(monkeypatch):
    monkeypatch.setattr(local_ray, "DRIVER", LATE + local_ray.DRIVER)
    with LocalRay(num_cpus=1, num_threads=1):
        wait_for_late(is_there=True)
    assert not late_processes()


@pytest.mark.ray
def test_a_command_that_is_killed_leaves_no_process_of_ray():
    with subprocess.Popen([sys.executable, "-c", COMMAND], stdin=subprocess.PIPE) as command:
        wait_for_late(is_there=True)
        command.kill()
    wait_for_late(is_there=False)


def wait_for_late(*, is_there):
    until_s = time.monotonic() + 20
    while bool(late_processes()) != is_there:
        assert time.monotonic() < until_s
        time.sleep(0.02)


def late_processes():
    return [one for one, words in marked_processes().items() if words == "sleep 60.25"]


def test_a_session_ends_with_all_that_was_started_in_it():
    more = "import subprocess, sys; subprocess.Popen(['sleep', '60'], process_group=0); print(1, flush=True); input()"
    leader = subprocess.Popen(
        [sys.executable, "-c", more], start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    leader.stdout.readline()
    (sleeping,) = psutil.Process(leader.pid).children()
    end_session(leader.pid)
    assert not sleeping.is_running() or sleeping.status() == psutil.STATUS_ZOMBIE
    assert leader.poll() is None  # it is not killed itself
    leader.communicate(b"\n")


def test_a_folder_of_ray_has_a_short_path(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_folder, "SHORT", str(tmp_path / "none"))
    monkeypatch.setenv("RAY_TMPDIR", str(TEMPORARY))
    folder = make_ray_folder()
    assert len(os.fsencode(folder / OPEN)) <= MAX_BYTES
    shutil.rmtree(folder)
    monkeypatch.setenv("RAY_TMPDIR", str(TEMPORARY / (60 * "a")))
    with pytest.raises(ConfigError, match="set RAY_TMPDIR"):
        make_ray_folder()
