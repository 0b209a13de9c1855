"""A run that is killed a hundred times ends with the bits of one that never was.

    python -m pytest -m soak -s tests/soak

SUPSUP_SOAK_KILLS and SUPSUP_SOAK_TASKS change the numbers (100 and 200); SUPSUP_SOAK_RECORD names a
JSON file for the record, which is printed too.
"""

import contextlib
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from storage.files import temporaries
from storage.verify import verify_masks
from tests.conftest import sweep_text, wait_for_port
from tests.orchestrator.fakes import Recorder

NUM_KILLS = int(os.environ.get("SUPSUP_SOAK_KILLS", "100"))
NUM_TASKS = int(os.environ.get("SUPSUP_SOAK_TASKS", "200"))
RECORD = os.environ.get("SUPSUP_SOAK_RECORD")
KINDS = ("controller", "worker", "raylet", "mlflow server")
WEIGHTS = (3, 13, 2, 2)
HUNG_S = 180.0  # without a new mask: a run that waits for ever
SUPSUP = Path(sys.executable).with_name("supsup")


def write_sweep(folder: Path, storage: Path, executor: str, tracking: str) -> Path:
    text = sweep_text(
        storage,
        name="soak",
        benchmark=f"{{kind: permuted, dataset: digits, num_tasks: {NUM_TASKS}}}",
        network="{kind: lenet_300_100, outputs: 100}",
        training="{steps: 1000, batch_size: 128, optimizer: {kind: rmsprop, lr: 1.0e-4}, cohort_size: 1}",
        evaluation=f"{{scenarios: [GG, GNu], at: [{NUM_TASKS}]}}",
        executor=executor,
        tracking=tracking,
    )
    path = folder / f"{storage.name}.yaml"
    path.write_text(text)
    return path


class Server:
    """MLflow's server on loopback, on the same port after every kill."""

    def __init__(self, folder: Path, port: int) -> None:
        self.database, self.uri = folder / "mlflow.db", f"http://127.0.0.1:{port}"
        self._folder, self._port = folder, port
        self.start()
        wait_for_port(port, self._process, limit_s=120)

    def start(self) -> None:
        with (self._folder / "mlflow.log").open("ab") as log:
            words = ["server", "--host", "127.0.0.1", "--port", self._port, "--workers", 1]
            store = ["--backend-store-uri", f"sqlite:///{self.database}"]
            artifacts = ["--artifacts-destination", self._folder / "artifacts"]
            command = [sys.executable, "-m", "mlflow", *words, *store, *artifacts]
            variables = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight more processes
            self._process = subprocess.Popen(
                [str(word) for word in command], stdout=log, stderr=log, env=variables, start_new_session=True
            )

    def kill(self) -> None:
        kill_tree(self._process.pid)
        self._process.wait()


class Command:
    """``supsup run``, started again whenever it has ended."""

    def __init__(self, path: Path, log: Path) -> None:
        self._path, self._log = path, log
        self.exit_codes: list[int] = []
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [SUPSUP, "run", "--plain", self._path], stdout=log, stderr=log, start_new_session=True
            )

    def go_on(self) -> None:
        """Start it again where it has ended by itself."""
        code = self.process.poll()
        if code is not None:
            self.exit_codes.append(code)
            self.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.start()


def kill_tree(process_id: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(process_id)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def below(process_id: int, kind: str) -> list[psutil.Process]:
    """Return the worker processes, or the raylet, that a controller started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = []
        for one in psutil.Process(process_id).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                words = one.cmdline()
                title = words[0] if words else ""
                is_worker = title.startswith("ray::") and not title.startswith(
                    ("ray::IDLE", "ray::Dash", "ray::Runt")
                )
                if (kind == "worker" and is_worker) or (kind == "raylet" and title.endswith("/raylet")):
                    found.append(one)
        return found
    return []


def strike(kind: str, command: Command, server: Server, draw: random.Random) -> bool:
    """Kill one of a kind; return whether there was one."""
    if kind == "controller":
        command.kill()
    elif kind == "mlflow server":
        server.kill()
        server.start()
    else:
        victims = below(command.process.pid, kind)
        if not victims:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            draw.choice(victims).kill()
    return True


def wait_for(num_masks: int, run, command: Command, hung: list[int]) -> None:
    """Wait until so many masks are stored; a command that has ended is started again."""
    last, since_s = -1, time.monotonic()
    while (there := len(run.store.files())) < num_masks:
        if there != last:
            last, since_s = there, time.monotonic()
        if time.monotonic() - since_s > HUNG_S:
            hung.append(there)
            command.kill()
            since_s = time.monotonic()
        command.go_on()
        time.sleep(0.1)


def mlflow_faults(database: Path) -> list[str]:
    """Return what is wrong with the tracked runs: one parent and one run a task, no point twice."""
    faults = []
    with contextlib.closing(sqlite3.connect(database)) as opened:
        found = opened.execute("select count(*), count(distinct name) from runs").fetchone()
        if found != (NUM_TASKS + 1,) * 2:
            faults.append(f"{found} runs and names, expected {NUM_TASKS + 1}")
        twice = "select run_uuid, key, step from metrics group by 1, 2, 3 having count(*) > 1"
        if opened.execute(twice).fetchall():
            faults.append("points that are there twice")
    return faults


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_a_hundred_kills_lose_nothing_and_change_no_bit(tmp_path):
    start_s = time.monotonic()
    inline = load_sweep(
        write_sweep(tmp_path, tmp_path / "undisturbed", "{kind: inline}", "{uri: null, figures: false}")
    )
    run_sweep(inline, None, Recorder())
    expected = locate_run(inline).store.info_table()["digest"].to_pylist()
    undisturbed_s, start_s = time.monotonic() - start_s, time.monotonic()

    server = Server(tmp_path, free_port())
    tracking = f"{{uri: '{server.uri}', figures: false}}"
    path = write_sweep(tmp_path, tmp_path / "killed", "{kind: ray, workers: 2}", tracking)
    run = locate_run(load_sweep(path))
    command = Command(path, tmp_path / "run.log")
    draw, kills, hung = random.Random(7), Counter(), []
    try:
        for number in range(NUM_KILLS):
            wanted = int(number * 0.9 * NUM_TASKS / NUM_KILLS)
            is_late = len(run.store.files()) > wanted + 2
            wait_for(wanted, run, command, hung)
            time.sleep(0.0 if is_late else draw.uniform(0.0, 1.5))
            kind = draw.choices(KINDS, WEIGHTS)[0]
            while not strike(kind, command, server, draw):
                command.go_on()
                time.sleep(0.1)
            kills[kind] += 1
            say(
                f"{number + 1}/{NUM_KILLS} {kind}, {len(run.store.files())} masks, {time.monotonic() - start_s:.0f} s"
            )
        while command.process.wait() != 0:
            command.go_on()
        faults = mlflow_faults(server.database)
    finally:
        kill_tree(command.process.pid)
        server.kill()

    found = dict(
        zip((facts := run.store.info_table())["task"].to_pylist(), facts["digest"].to_pylist(), strict=True)
    )
    record = {
        "kills": dict(kills),
        "tasks": NUM_TASKS,
        "masks_lost": sum(task not in found for task in range(NUM_TASKS)),
        "digests_different": sum(found.get(task, digest) != digest for task, digest in enumerate(expected)),
        "ended_by_itself": dict(Counter(map(str, command.exit_codes))),
        "hung": len(hung),
        "temporaries_left": len(temporaries(run.layout.root)),
        "mlflow_faults": faults,
        "undisturbed_s": round(undisturbed_s),
        "killed_s": round(time.monotonic() - start_s),
    }
    say(json.dumps(record, indent=2))
    if RECORD:
        Path(RECORD).write_text(json.dumps(record, indent=2) + "\n")
    assert verify_masks(run.store).problems == ()
    wanted = {"masks_lost": 0, "digests_different": 0, "hung": 0, "temporaries_left": 0, "mlflow_faults": []}
    assert {key: record[key] for key in wanted} == wanted
    assert sum(kills.values()) == NUM_KILLS


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
