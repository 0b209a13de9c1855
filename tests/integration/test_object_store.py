"""Runs in an S3-compatible store: the same commands, the same bits, the same guarantees."""

import os
import signal
import time

import numpy as np
import pytest

from core.errors import RunFolderError, RunLockedError
from orchestrator.cli.main import app, call
from orchestrator.config.load import load_sweep
from orchestrator.evaluate import evaluate_run
from orchestrator.predict import load_predictor
from orchestrator.runs.lock import is_locked, locked
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from storage.layout import RunLayout
from storage.locations import ObjectPath, to_location
from tests.conftest import start_supsup, sweep_text
from tests.integration.test_crash import digests, inline_digests, wait_for_masks, write_sweep
from tests.orchestrator.fakes import Recorder


@pytest.fixture
def stored(tmp_path, s3_storage, monkeypatch):
    """Return the tiny sweep with its runs in the store."""
    monkeypatch.setenv("SUPSUP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.yaml"
    evaluation = "{scenarios: [GG, GNu], inference: {objective: H}, at: [2, 4]}"
    path.write_text(sweep_text(s3_storage, evaluation=evaluation))
    return load_sweep(path)


def test_every_command_works_on_a_run_in_a_store(stored, s3_storage, tmp_path, capsys):
    result = run_sweep(stored, None, Recorder())
    root = result.run.layout.root
    assert isinstance(root, ObjectPath)
    plain = load_sweep(tmp_path / "tiny.yaml", [f"storage.uri={tmp_path}/plain"])
    assert run_sweep(plain, None, Recorder()).results == result.results
    assert digests(stored) == digests(plain)

    again = Recorder()
    assert run_sweep(stored, None, again).num_trained == 0
    assert "nothing to train" in again.messages
    assert evaluate_run(root, ["evaluation.inference.algorithm=exhaustive"], None, Recorder()).failures == ()
    for command in (["status", str(root)], ["status", "--storage", s3_storage], ["verify", str(root)]):
        assert call(app, command) == 0
    assert call(app, ["export", root.name, "--storage", s3_storage, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "task-3.safetensors").is_file()
    assert "4/4" in capsys.readouterr().out
    assert load_predictor(str(root)).infer(np.zeros((1, 6, 6)))[0].task < 4


def test_a_damaged_object_is_found_and_made_again(stored, capsys):
    first = run_sweep(stored, None, Recorder())
    path = first.run.store.files()[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert call(app, ["verify", str(first.run.layout.root)]) == 1
    assert path.name in capsys.readouterr().out
    assert run_sweep(stored, None, Recorder()).num_trained == 2
    assert call(app, ["verify", str(first.run.layout.root)]) == 0


def test_one_controller_at_a_time(s3_storage):
    layout = RunLayout(to_location(s3_storage) / "run")
    assert not is_locked(layout)
    with locked(layout):
        assert is_locked(layout)
        with pytest.raises(RunLockedError, match="already running: s3://"), locked(layout):
            pass
    assert not is_locked(layout)
    with locked(layout):
        pass


def test_a_lease_of_another_machine_is_free_when_nobody_renews_it(s3_storage, monkeypatch):
    monkeypatch.setattr("orchestrator.runs.lock.LEASE_S", 2.0)
    layout = RunLayout(to_location(s3_storage) / "run")
    foreign = '{"host": "elsewhere", "process_id": 1, "renewed_s": %f}'
    layout.lock.write_bytes((foreign % time.time()).encode())
    start_s = time.monotonic()
    with locked(layout):
        assert time.monotonic() - start_s >= 2.0


def test_a_store_that_does_not_answer_is_one_plain_line(stored, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    root = ObjectPath("s3://nowhere-to-be-found/x")
    with pytest.raises(RunFolderError, match="AWS_ENDPOINT_URL") as caught, locked(RunLayout(root)):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_kill_9_twice_on_a_store_ends_with_the_bits_of_an_inline_run(tmp_path, s3_storage):
    expected = inline_digests()
    path = write_sweep(tmp_path, tmp_path / "killed", "{kind: ray, workers: 2}")
    path.write_text(
        path.read_text().replace(
            f"storage: {{uri: {tmp_path / 'killed'}}}", f"storage: {{uri: {s3_storage}}}"
        )
    )
    config = load_sweep(path)
    assert config.storage.uri == s3_storage
    for _ in range(2):
        process = start_supsup("run", path)
        wait_for_masks(config, process, more=1)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start_supsup("run", path)
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    assert digests(config) == expected
    assert not is_locked(locate_run(config).layout)
