"""Kill everything at random moments; the same command ends with the same bits."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.history import read_sessions
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from storage.files import temporaries
from tests.conftest import start_supsup, sweep_text
from tests.orchestrator.fakes import Recorder

TRAINING = "{steps: 8000, batch_size: 64, optimizer: {kind: rmsprop, lr: 1.0e-3}, cohort_size: 2}"
LONG_RAY = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]


def write_sweep(
    folder: Path, storage: Path, executor: str, tracking: str = "{uri: null, figures: false}"
) -> Path:
    path = folder / f"{storage.name}.yaml"
    benchmark = "{kind: permuted, dataset: synthetic, num_tasks: 12}"
    text = sweep_text(
        storage,
        benchmark=benchmark,
        training=TRAINING,
        executor=executor,
        tracking=tracking,
        evaluation="{at: [12]}",
    )
    path.write_text(text)
    return path


@cache
def inline_digests() -> list[str]:
    """Run the sweep in this process, undisturbed; once for all that ask."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = load_sweep(write_sweep(folder, folder / "undisturbed", "{kind: inline}"))
        run_sweep(config, None, Recorder())
        return digests(config)


def digests(config) -> list[str]:
    return locate_run(config).store.info_table()["digest"].to_pylist()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_kill_9_of_the_process_group_at_three_random_moments(tmp_path):
    expected = inline_digests()
    tracking = f"{{uri: 'sqlite:///{tmp_path}/mlflow.db', figures: false}}"
    path = write_sweep(tmp_path, tmp_path / "killed", "{kind: ray, workers: 2}", tracking)
    config = load_sweep(path)
    draw = random.Random(7)
    for _ in range(3):
        process = start_supsup("run", path)
        wait_for_masks(config, process, more=1)
        time.sleep(draw.uniform(0, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run = locate_run(config)
    process = start_supsup("run", path)
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    assert digests(config) == expected
    assert temporaries(run.layout.root) == []
    start_s = time.monotonic()
    process = start_supsup("run", path)
    shown, _ = process.communicate()
    assert process.returncode == 0
    assert "nothing to train" in shown
    assert time.monotonic() - start_s < 30  # 10 s on a quiet machine
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        check_mlflow(database)
    database.close()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["raylet", pytest.param("ray::DashboardAgent", marks=pytest.mark.long)])
def test_the_end_of_a_process_of_ray_is_told_and_recorded(tmp_path, name):
    expected = inline_digests()
    path = write_sweep(tmp_path, tmp_path / "lost", "{kind: ray, workers: 2}")
    config = load_sweep(path)
    process = start_supsup("run", path, "--plain")
    wait_for_masks(config, process, more=1)
    shown = killed_by(process, name)
    assert process.returncode == 1, shown
    assert "lost the Ray of this machine" in shown
    assert "run the same command again" in shown
    assert "Traceback" not in shown
    run = locate_run(config)
    assert read_sessions(run.layout)[-1].status == "FAILED"
    assert 0 < len(run.store.files()) < 6  # cohorts
    process = start_supsup("run", path)
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    assert digests(config) == expected


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_search_lives_through_the_end_of_its_ray(tmp_path):
    path = write_sweep(tmp_path, tmp_path / "lost", "{kind: ray, workers: 2}")
    space = "search.space.seed=[0,1,2,3]"
    process = start_supsup("run", path, space, "--plain")
    shown = kill_raylet(process, lambda: any((tmp_path / "lost").glob("*/masks/*.parquet")))
    assert process.returncode == 1, shown
    assert "lost the Ray of this machine" in shown
    assert "Traceback" not in shown
    process = start_supsup("run", path, space)
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    assert digests(load_sweep(path)) == inline_digests()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_the_end_of_ray_while_it_holds_the_masks_is_told(tmp_path):
    path = write_sweep(tmp_path, tmp_path / "runs", "{kind: inline}")
    run_sweep(load_sweep(path), None, Recorder())
    root = locate_run(load_sweep(path)).layout.root
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((20_000, 6, 6), np.uint8))
    process = start_supsup("infer", root, images, "--shards", "2")
    shown = kill_raylet(process, lambda: any(held(process)))
    assert process.returncode == 1, shown
    assert "lost the Ray of this machine" in shown or "lost a shard of the masks" in shown
    assert "run the same command again" in shown
    assert len(shown.strip().splitlines()) == 1


def kill_raylet(process: subprocess.Popen[str], is_time: Callable[[], bool]) -> str:
    """Kill the raylet of a command once it is time, and return what it has printed at its end."""
    until_s = time.monotonic() + 120
    while not is_time():
        assert process.poll() is None
        assert time.monotonic() < until_s
        time.sleep(0.1)
    return killed_by(process, "raylet")


def killed_by(process: subprocess.Popen[str], name: str) -> str:
    """Kill the child of a command that has this name, and return what the command has printed at its end."""
    (found,) = [one for one in psutil.Process(process.pid).children(recursive=True) if one.name() == name]
    found.kill()
    return process.communicate(timeout=120)[0]


def held(process: subprocess.Popen[str]) -> list[str]:
    """Return the actors of a command's Ray that hold masks."""
    names = [one.name() for one in psutil.Process(process.pid).children(recursive=True)]
    return [name for name in names if name.startswith("ray::_ShardActor")]


def check_mlflow(database: sqlite3.Connection) -> None:
    """One parent and one run per task, all ended; no point of any metric twice."""
    runs = database.execute("select count(*), count(distinct name), max(status), min(status) from runs")
    assert runs.fetchone() == (13, 13, "FINISHED", "FINISHED")
    query = "select count(*), count(distinct step) from metrics where key = 'task/test_accuracy'"
    assert database.execute(query).fetchone() == (12, 12)
    twice = "select run_uuid, key, step from metrics group by 1, 2, 3 having count(*) > 1"
    assert database.execute(twice).fetchall() == []


def wait_for_masks(config, process, more: int) -> None:
    """Wait until the run has ``more`` mask files than now, or has ended."""
    store = locate_run(config).store
    wanted = len(store.files()) + more
    while len(store.files()) < wanted and process.poll() is None:
        time.sleep(0.05)


def kill_after_a_mask(path, storage) -> int:
    """Start a sweep with its runs in ``storage``, kill it at its first mask file; return how many files there are."""
    setting = f"storage.uri={storage}"
    process = start_supsup("run", path, setting, "--plain")
    wait_for_masks(load_sweep(path, [setting]), process, more=1)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return len(list(storage.glob("*/masks/*.parquet")))


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 2])
def test_one_worker_or_two_give_the_bits_of_an_inline_run(tmp_path, workers, local_ray):
    del local_ray
    config = load_sweep(
        write_sweep(tmp_path, tmp_path / "ray", f"{{kind: ray, workers: {workers}}}"), ["training.steps=300"]
    )
    run_sweep(config, None, Recorder())
    inline = load_sweep(write_sweep(tmp_path, tmp_path / "inline", "{kind: inline}"), ["training.steps=300"])
    run_sweep(inline, None, Recorder())
    assert digests(config) == digests(inline)


@pytest.mark.parametrize(
    ("executor", "number"),
    [
        ("{kind: inline}", signal.SIGINT),
        ("{kind: inline}", signal.SIGTERM),
        pytest.param("{kind: ray, workers: 2}", signal.SIGINT, marks=[pytest.mark.ray, pytest.mark.slow]),
        pytest.param("{kind: ray, workers: 2}", signal.SIGTERM, marks=LONG_RAY),
    ],
)
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path, number, executor):
    path = write_sweep(tmp_path, tmp_path / "stopped", executor)
    process = start_supsup("run", path)
    wait_for_masks(load_sweep(path), process, more=1)
    process.send_signal(number)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert "tasks are finished and kept" in shown
    assert "run it again to resume" in shown
    assert "Traceback" not in shown
    assert temporaries(locate_run(load_sweep(path)).layout.root) == []
    assert len(digests(load_sweep(path))) >= 2


def test_temporaries_of_dead_writers_go_and_those_of_living_ones_stay(sweep):
    config = load_sweep(sweep)
    run = locate_run(config)
    run.layout.masks.mkdir(parents=True)
    from storage.layout import host_name

    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        pass
    names = {
        process_id: run.layout.masks / f".cohort-00000-00001.parquet.{host_name()}.{process_id}.0123abcd.tmp"
        for process_id in (dead.pid, os.getpid())
    }
    for path in names.values():
        path.write_bytes(b"half")
    run_sweep(config, None, Recorder())
    assert not names[dead.pid].exists()
    assert names[os.getpid()].exists()
