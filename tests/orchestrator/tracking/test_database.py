"""MLflow's SQLite file appears whole or not at all, whatever ends the process that makes it."""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from core.errors import SupSupError
from orchestrator.tracking.client import connect

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations

# An error of the database itself, as of a full disk.
REFUSED = """
import sqlite3, sys
from orchestrator.tracking.client import connect
client = connect(f"sqlite:///{sys.argv[1]}")
with sqlite3.connect(sys.argv[1]) as store:
    store.execute("drop table runs")
try:
    client.create_run("0")
except Exception as error:
    sys.exit("no such table" not in str(error))
"""
MAKE = "import sys; from orchestrator.tracking.client import connect; connect(sys.argv[1])"


def uri(path):
    return f"sqlite:///{path}"


def temporaries(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".mlflow.db.")]


def is_usable(path):
    client = connect(uri(path))
    run = client.create_run(client.create_experiment(f"e{time.time_ns()}"))
    return client.get_run(run.info.run_id).info.status == "RUNNING"


def killed_in_the_middle(path, how, after_s):
    """Make a store in another process and end it ``after_s`` after it has begun to write."""
    process = subprocess.Popen([sys.executable, "-c", MAKE, uri(path)], stderr=subprocess.DEVNULL)
    while process.poll() is None and not temporaries(path.parent):
        time.sleep(0.01)
    time.sleep(after_s)
    process.send_signal(how)
    return process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.4, 0.9])
@pytest.mark.parametrize(
    "how",
    [signal.SIGKILL, *(pytest.param(one, marks=pytest.mark.long) for one in (signal.SIGINT, signal.SIGTERM))],
)
def test_a_creation_that_is_ended_leaves_no_half_of_a_store(tmp_path, how, after_s):
    path = tmp_path / "mlflow.db"
    ended = killed_in_the_middle(path, how, after_s)
    if ended != 0:
        assert not path.exists()
    assert is_usable(path)
    assert temporaries(tmp_path) == []


def test_a_creation_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.tracking.database._create", full)
    with pytest.raises(OSError, match="No space left"):
        connect(uri(tmp_path / "mlflow.db"))
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_half_of_a_store_is_recognised_and_the_way_out_works(tmp_path):
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as half:
        half.execute("create table experiments (experiment_id integer)")
        half.commit()
    before = path.read_bytes()
    with pytest.raises(
        SupSupError, match=r"is only part of an MLflow store.*`supsup sync RUN` fills a new one"
    ):
        connect(uri(path))
    assert before[:16] == path.read_bytes()[:16]
    path.unlink()
    # In another process, since MLflow keeps what it has opened.
    assert subprocess.run([sys.executable, "-c", MAKE, uri(path)], check=False).returncode == 0


def test_a_store_with_runs_of_another_version_is_not_called_half(tmp_path):
    path = tmp_path / "mlflow.db"
    assert is_usable(path)
    with closing(sqlite3.connect(path)) as store:
        store.execute("update alembic_version set version_num = '0a8213491aaa'")
        store.commit()
    path = path.rename(tmp_path / "other.db")  # MLflow keeps what it has opened
    with pytest.raises(SupSupError, match=r"this version of MLflow cannot open.*out-of-date"):
        connect(uri(path))


def test_an_error_of_the_store_is_raised_and_not_logged_with_a_stack_trace(tmp_path):
    words = [sys.executable, "-W", "ignore", "-c", REFUSED, str(tmp_path / "mlflow.db")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_an_empty_file_becomes_a_store(tmp_path):
    path = tmp_path / "mlflow.db"
    path.touch()
    assert is_usable(path)
