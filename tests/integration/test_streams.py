"""Scenario NNs through the command line: one stream in, masks and a log out, from any crash on."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.results import finished_log
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from storage.decisions import score_rows
from storage.files import temporaries
from storage.stream_state import read_position
from storage.summary import read_summary
from tests.conftest import start_supsup, supsup, sweep_text
from tests.orchestrator.fakes import Recorder

NETWORK = "{kind: mlp, hidden: [48], outputs: 32}"
TRAINING = (
    "{task_identity: none, steps: 60, batch_size: 16, optimizer: {kind: rmsprop, lr: 3.0e-3}, "
    "stream: {return_share: 0.5}, allocation: {decide_every: 15, epsilon: 0.35, rollback: true}, cohort_size: 2}"
)


def write_sweep(folder: Path, name: str = "stream", **changes) -> Path:
    path = folder / f"{name}.yaml"
    lines = {
        "network": NETWORK,
        "training": TRAINING,
        "evaluation": "{scenarios: [NNs]}",
        "tracking": "{uri: null}",
    }
    path.write_text(sweep_text(folder / name, **(lines | changes)))
    return path


def digests(config) -> list[str]:
    return locate_run(config).store.info_table()["digest"].to_pylist()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a whole run, made once; only looked at."""
    path = write_sweep(tmp_path_factory.mktemp("undisturbed"))
    assert supsup("run", path) == 0
    return locate_run(load_sweep(path))


@pytest.fixture
def run(undisturbed, tmp_path):
    """Return a copy of the whole run, for a test that changes it."""
    path = write_sweep(tmp_path)
    shutil.copytree(undisturbed.layout.root.parent, tmp_path / path.stem)
    return locate_run(load_sweep(path))


def test_a_stream_ends_with_masks_a_log_and_a_table(run):
    rows = finished_log(run)
    score = score_rows(rows)
    facts = run.store.info_table().to_pylist()
    assert [fact["task"] for fact in facts] == list(range(score.num_masks))
    assert 1 < score.num_masks <= len(rows)
    assert [path.name for path in run.layout.stream.iterdir()] == ["decisions.parquet"]
    assert {path.name for path in run.layout.report.iterdir()} >= {
        "summary.json",
        "stream.png",
        "tasks.parquet",
    }
    table = pq.read_table(
        run.layout.evaluations / f"NNs-one_shot-H-1-{run.config.benchmark.num_tasks}.parquet"
    )
    assert set(table["task"].to_pylist()) == {0, 1, 2, 3}
    measured = read_summary(run.layout.summary)[0]["NNs"]["one_shot-H-1"]["4"]
    by_task = table.group_by("task").aggregate([("num_correct", "sum"), ("num_images", "sum")])
    shares = [row["num_correct_sum"] / row["num_images_sum"] for row in by_task.to_pylist()]
    assert measured["accuracy"] == pytest.approx(sum(shares) / 4)
    counts = ("num_masks", "num_missed", "num_duplicates", "num_merged", "num_reused", "num_skipped")
    assert {key: measured[key] for key in counts} == {key: getattr(score, key) for key in counts}


def test_an_inferred_mask_is_right_where_it_belongs_to_the_true_task(run):
    """And its rank is that of the first such mask."""
    homes = score_rows(finished_log(run)).homes
    table = pq.read_table(run.layout.evaluations / "NNs-one_shot-H-1-4.parquet").to_pylist()
    assert any(homes[row["inferred_task"]] != row["task"] or row["rank"] == 1 for row in table)
    for row in table:
        assert (homes[row["inferred_task"]] == row["task"]) == (row["rank"] == 1)


def test_stored_masks_are_those_of_the_log(run):
    last_kept = {}
    rows = finished_log(run)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if row["mask"] is not None and not (after and after["rolled_back"]):
            last_kept[row["mask"]] = row["digest"]
    assert [last_kept[mask] for mask in sorted(last_kept)] == digests(run.config)


def test_the_same_command_again_trains_nothing(run, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.layout.masks.iterdir()}
    capsys.readouterr()
    assert supsup("run", tmp_path / "stream.yaml") == 0
    shown = capsys.readouterr().out
    assert "nothing to train" in shown
    assert "masks allocated" in shown
    assert {path: path.stat().st_mtime_ns for path in run.layout.masks.iterdir()} == before


def test_every_command_knows_a_stream(run, tmp_path, capsys):
    root = run.layout.root
    num_masks = len(digests(run.config))
    assert supsup("plan", tmp_path / "stream.yaml") == 0
    assert "not told to the model" in capsys.readouterr().out
    assert supsup("status", root) == 0
    assert f"{num_masks}/{num_masks} masks" in capsys.readouterr().out
    assert supsup("verify", root) == 0
    assert f"{num_masks} of {num_masks} masks are good" in capsys.readouterr().out
    assert supsup("evaluate", root, "evaluation.inference.algorithm=exhaustive") == 0
    assert "exhaustive-H-1" in capsys.readouterr().out
    image = tmp_path / "image.npy"
    np.save(image, np.zeros((6, 6)))
    assert supsup("infer", root, image) == 0
    assert supsup("export", root, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("mask-*.safetensors"))) == num_masks


def test_a_lost_mask_starts_the_stream_again_and_ends_with_the_same_bits(run, tmp_path, capsys):
    expected = digests(run.config)
    next(run.layout.masks.iterdir()).unlink()
    assert supsup("verify", run.layout.root) == 1
    assert "missing" in capsys.readouterr().out
    assert supsup("run", tmp_path / "stream.yaml") == 0
    assert "it starts again from its beginning" in " ".join(capsys.readouterr().out.split())
    assert digests(run.config) == expected


def test_num_tasks_is_part_of_what_a_stream_means(tmp_path):
    path = write_sweep(tmp_path)
    longer = load_sweep(path, ["benchmark.num_tasks=5"])
    assert locate_run(longer).fingerprint != locate_run(load_sweep(path)).fingerprint


class StopAfter(Recorder):
    """A display that pulls the plug after some jobs."""

    num_left = 0

    def on_result(self, job, result):
        self.num_left -= 1
        if self.num_left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("checkpoint_s", [0.0, 3600.0])
def test_stopped_again_and_again_it_ends_with_the_bits_of_an_undisturbed_run(
    tmp_path, monkeypatch, checkpoint_s, undisturbed
):
    """With a checkpoint at every decision, and with none but at the end of a job of three."""
    from orchestrator.session import StoppedError
    from orchestrator.stages import stream as stream_stage
    from orchestrator.worker import stream as stream_work

    monkeypatch.setattr(stream_work, "CHECKPOINT_S", checkpoint_s)
    monkeypatch.setattr(stream_stage, "DECISIONS_PER_JOB", 3)
    config = load_sweep(write_sweep(tmp_path, "stopped"))
    for num_jobs in (0, 1, 2):
        display = StopAfter()
        display.num_left = num_jobs
        with pytest.raises(StoppedError):
            run_sweep(config, None, display)
    run = locate_run(config)
    assert read_position(run.layout, run.fingerprint).num_decisions == 3 * (
        1 + 2 + 3
    )  # no job's work is lost
    run_sweep(config, None, Recorder())
    assert digests(config) == digests(undisturbed.config)
    assert finished_log(locate_run(config)) == finished_log(undisturbed)


def test_a_damaged_checkpoint_is_said_and_the_stream_starts_again(tmp_path, monkeypatch, undisturbed):
    from orchestrator.session import StoppedError
    from orchestrator.stages import stream as stream_stage
    from orchestrator.worker import stream as stream_work

    monkeypatch.setattr(stream_work, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(stream_stage, "DECISIONS_PER_JOB", 3)
    config = load_sweep(write_sweep(tmp_path))
    display = StopAfter()
    display.num_left = 1
    with pytest.raises(StoppedError):
        run_sweep(config, None, display)
    state = next(locate_run(config).layout.stream.glob("mask-*.npz"))
    state.write_bytes(state.read_bytes()[:-1])
    watching = Recorder()
    run_sweep(config, None, watching)
    said = [event[1] for event in watching.events if event[0] == "message"]
    assert any("does not match" in text or "starts again from the beginning" in text for text in said)
    assert digests(config) == digests(undisturbed.config)


@pytest.mark.parametrize("failing_call", [1, 6, 9])
def test_an_error_in_the_middle_of_a_decision_changes_no_bit(
    tmp_path, monkeypatch, failing_call, undisturbed
):
    """What is pending was settled by then: the retry must start from the checkpoint, not from memory."""
    from core.stream.training import StreamTrainer
    from orchestrator.worker import stream as stream_work

    monkeypatch.setattr(stream_work, "CHECKPOINT_S", 0.0)
    train, calls = StreamTrainer._trained, []

    def fail_once(self, *arguments):
        calls.append(arguments)
        if len(calls) == failing_call:
            raise OSError("out of something")
        return train(self, *arguments)

    monkeypatch.setattr(StreamTrainer, "_trained", fail_once)
    config = load_sweep(write_sweep(tmp_path))
    result = run_sweep(config, None, Recorder())
    assert result.failures == ()
    assert digests(config) == digests(undisturbed.config)
    assert finished_log(locate_run(config)) == finished_log(undisturbed)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_kill_9_of_the_process_group_at_three_moments(tmp_path):
    # Some twenty seconds, so that several checkpoints fall into it.
    training = TRAINING.replace("steps: 60", "steps: 32000").replace("decide_every: 15", "decide_every: 300")
    expected = load_sweep(write_sweep(tmp_path, "undisturbed", training=training))
    run_sweep(expected, None, Recorder())
    tracking = f"{{uri: 'sqlite:///{tmp_path}/mlflow.db'}}"
    ray = "{kind: ray, workers: 1}"
    path = write_sweep(tmp_path, "killed", executor=ray, training=training, tracking=tracking)
    config = load_sweep(path)
    layout = locate_run(config).layout
    num_kills = 0
    for moment_s in (0.1, 1.0, 2.0):
        process = start_supsup("run", path)
        before = modified(layout.stream_state)
        while modified(layout.stream_state) == before and process.poll() is None:
            time.sleep(0.05)
        time.sleep(moment_s)
        with contextlib.suppress(ProcessLookupError):  # a fast machine may have ended by now
            num_kills += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert num_kills >= 2
    process = start_supsup("run", path)
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    assert digests(config) == digests(expected)
    assert finished_log(locate_run(config)) == finished_log(locate_run(expected))
    assert temporaries(layout.root) == []


def modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
