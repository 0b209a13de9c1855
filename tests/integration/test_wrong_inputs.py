"""Wrong input: exit code 2, the key or file named, no stack trace, nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.errors import InferenceError
from orchestrator.cli.main import app, call
from orchestrator.images import read_images
from tests.conftest import sweep_text
from tests.orchestrator.wrong_inputs import WRONG_FILES, WRONG_SETTINGS

SUPSUP = Path(sys.executable).with_name("supsup")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPSUP_DATA", raising=False)
    (tmp_path / "good.yaml").write_text(sweep_text(tmp_path / "runs"))
    return tmp_path


def refused(capsys, folder, *arguments, words=()):
    before = sorted(folder.rglob("*"))
    code = call(app, [str(argument) for argument in arguments])
    shown = capsys.readouterr()
    told = " ".join((shown.err + shown.out).split())
    assert code == 2, told
    assert "Traceback" not in told
    for word in words:
        assert word in told
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(("setting", "words"), WRONG_SETTINGS)
def test_settings(capsys, folder, command, setting, words):
    if setting.startswith("--"):
        words = ["--seed"]  # taken for an option, and refused as one
    refused(capsys, folder, command, "good.yaml", *setting.split(" "), words=words)


@pytest.mark.parametrize(("content", "words"), WRONG_FILES)
def test_files(capsys, folder, content, words):
    (folder / "bad.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(capsys, folder, "run", "bad.yaml", words=["bad.yaml", *words])


WRONG_COMMANDS = [
    (["run"], ["SWEEP.yaml"]),
    (["run", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
    (["run", "a" * 5000], ["File name too long"]),
    (["plan", f"{'a' * 5000}.yaml"], ["File name too long"]),
    (["status", "a" * 5000], ["File name too long"]),
    (["run", "."], ["neither a sweep file nor a run folder"]),
    (["plan", "nowhere.yaml"], ["nowhere.yaml"]),
    (["ru", "good.yaml"], ["ru"]),
    (["run", "good.yaml", "--fast"], ["--fast"]),
    (["status", "nowhere"], ["RUN 'nowhere'", "run.json"]),
    (["verify"], ["RUN"]),
    (["verify", "good.yaml"], ["RUN 'good.yaml'"]),
    (["verify", "."], ["no run folder"]),
    (["export", "nowhere", "--out", "x"], ["RUN 'nowhere'"]),
    (["export", "nowhere"], ["--out", "--mlflow"]),
    (["export", "nowhere", "--out", "x", "--register", "masks"], ["--register", "--mlflow"]),
    (["export", "nowhere", "--mlflow", "--alias", "best"], ["RUN 'nowhere'"]),
    (["report", "nowhere"], ["RUN 'nowhere'"]),
    (["sync", "nowhere"], ["RUN 'nowhere'"]),
    (["evaluate", "nowhere"], ["RUN 'nowhere'", "run.json"]),
    (["evaluate"], ["RUN"]),
    (["infer", "nowhere", "x.png"], ["RUN 'nowhere'", "run.json"]),
    (["infer", "nowhere"], ["IMAGE"]),
    (["infer", "nowhere", "x.png", "--shards", "0"], ["--shards"]),
    (["infer", "nowhere", "x.png", "--task", "one"], ["--task", "integer"]),
    (["ui", "nowhere"], ["RUN 'nowhere'"]),
    (["ui", "--port", "99999"], ["--port"]),
    (["ui", "--uri", "sqlite:///nowhere.db"], ["no MLflow store", "nowhere.db"]),
    (["run", "good.yaml", "storage.uri=good.yaml"], ["storage.uri", "good.yaml"]),
    (["run", "good.yaml", "storage.uri=/proc/nothing"], ["storage.uri", "/proc/nothing"]),
    (
        ["run", "good.yaml", "benchmark.dataset=mnist", "network.outputs=10", "data_dir=nowhere"],
        ["nowhere", "SUPSUP_DATA"],
    ),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG_COMMANDS)
def test_commands(capsys, folder, arguments, words):
    refused(capsys, folder, *arguments, words=words)


def test_a_pipe_is_not_waited_for(capsys, folder):
    os.mkfifo(folder / "pipe.yaml")
    refused(capsys, folder, "plan", "pipe.yaml", words=["pipe.yaml: a pipe"])
    for name in ("pipe.png", "pipe.npy"):
        os.mkfifo(folder / name)
        with pytest.raises(InferenceError, match=rf"{name} is a pipe"):
            read_images(folder / name, (6, 6), 255.0)


def test_an_address_where_no_ray_answers(folder):
    """In a process of its own: one that has Ray running would use that."""
    command = [SUPSUP, "run", "good.yaml", "executor.kind=ray", "executor.address=127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "executor.address: found '127.0.0.1:9', no Ray cluster answers there" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "runs").exists()


def test_a_run_folder_whose_run_json_was_edited(capsys, folder):
    assert call(app, ["run", "good.yaml"]) == 0
    (run_file,) = folder.glob("runs/*/run.json")
    run_file.write_text(run_file.read_text().replace('"seed": 3', '"seed": 4'))
    capsys.readouterr()
    refused(capsys, folder, "verify", run_file.parent, words=["run.json", "fingerprint", "start a new run"])


def test_export_asks_for_tasks_that_are_there(capsys, folder):
    assert call(app, ["run", "good.yaml"]) == 0
    (root,) = folder.glob("runs/*")
    for tasks, word in (("9", "0 to 3"), ("a", "0,3-5"), ("3-1", "3-1")):
        capsys.readouterr()
        refused(capsys, folder, "export", root, "--out", "x", "--tasks", tasks, words=["--tasks", word])


def test_a_task_that_is_given_is_one_of_the_run_and_nothing_is_searched(capsys, folder):
    assert call(app, ["run", "good.yaml"]) == 0
    (root,) = folder.glob("runs/*")
    np.save(folder / "image.npy", np.zeros((6, 6)))
    assert call(app, ["infer", str(root), "image.npy"]) == 0  # which makes the bank
    for words, told in (
        (["--task", "4"], ["task: found 4, expected a number from 0 to 3"]),
        (["--task=-1"], ["task: found -1, expected a number from 0 to 3"]),
        (["--task", "1", "--k", "2"], ["--task: found --k as well"]),
        (["--task", "1", "--objective", "H", "--shards", "2"], ["--task: found --objective and --shards"]),
    ):
        capsys.readouterr()
        refused(capsys, folder, "infer", root, "image.npy", *words, words=told)


def test_the_installed_command_ends_the_same_way(folder):
    """One real process for all of the above: exit code, stderr, and --debug's trace."""
    environment = {**os.environ, "COLUMNS": "200"}
    command = [SUPSUP, "run", "good.yaml", "seed=one"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "seed: found 'one', expected a whole number" in done.stderr
    assert "Traceback" not in done.stderr
    debug = subprocess.run([SUPSUP, "--debug", *command[1:]], capture_output=True, text=True, check=False)
    assert "Traceback" in debug.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("storage.uri={}/runs", ["storage.uri", "not UTF-8"]),
        ("tracking.uri=sqlite:///{}/mlflow.db", ["tracking.uri", "not UTF-8"]),
        (None, ["change to another", "not UTF-8"]),  # Ray starts in the current folder
    ],
)
def test_a_folder_whose_name_is_not_utf8_is_refused_before_anything_is_written(
    folder, capsys, monkeypatch, setting, words
):
    latin = folder / os.fsdecode("café".encode("latin-1"))
    latin.mkdir()
    if setting is None:
        monkeypatch.chdir(latin)
        settings = ["executor.kind=ray", "tracking.uri=null"]
    else:
        settings = [setting.format(latin)]
    refused(capsys, folder, "run", folder / "good.yaml", *settings, words=words)
