"""How far is this run? Every command gives the same answer, for every kind of work."""

import json
import shutil

import pytest

from core.training.optimizers import Optimizer
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run, open_run
from orchestrator.search.settings import plan_settings
from orchestrator.stages import training_stage
from orchestrator.status import complete_results, run_status
from orchestrator.tracking.content import tracked_end
from orchestrator.worker import stream as stream_work
from tests.conftest import supsup, sweep_text

KINDS = {
    "supermasks": {},
    "transfer": {
        "training": "{steps: 30, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}, transfer: masks}"
    },
    "baseline": {
        "baseline": "{kind: psp}",
        "training": "{steps: 30, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}}",
    },
    "stream": {
        "network": "{kind: mlp, hidden: [48], outputs: 32}",
        "training": "{task_identity: none, steps: 60, batch_size: 16, optimizer: {kind: rmsprop, lr: 3.0e-3}, "
        "allocation: {decide_every: 5, epsilon: 0.35}, cohort_size: 2}",
        "evaluation": "{scenarios: [NNs]}",
    },
}


def write(folder, kind, **changes):
    path = folder / f"{kind}.yaml"
    path.write_text(
        sweep_text(folder / "runs", **(KINDS[kind] | {"executor": "{kind: inline, retries: 0}"} | changes))
    )
    return path


def break_at(monkeypatch, number):
    """Let the job that holds this task (or decision) fail, whatever its kind."""
    from orchestrator.worker.worker import Worker

    run = Worker.run

    def broken(self, job):
        if number in job.tasks:
            raise ValueError("a broken task")
        return run(self, job)

    monkeypatch.setattr(Worker, "run", broken)


@pytest.mark.parametrize("kind", KINDS)
def test_status_shows_what_failed_and_only_failed_trains_no_more_than_that(
    tmp_path, monkeypatch, capsys, kind
):
    monkeypatch.setattr(stream_work, "CHECKPOINT_S", 0.0)
    sweep = write(tmp_path, kind)
    number = 12 if kind == "stream" else 2
    with monkeypatch.context() as patch:
        break_at(patch, number)
        assert supsup("run", sweep) == 1
    run = locate_run(load_sweep(sweep))
    found = run_status(run.layout.root)
    assert found.num_failed == 1
    assert found.error == "a broken task"
    assert found.state == "stopped"
    capsys.readouterr()
    assert supsup("status", run.layout.root, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["num_failed"], row["error"]) == (1, "a broken task")

    before = found.progress.done
    left_out = int(kind in ("transfer", "baseline", "stream"))  # what comes after, in order
    assert supsup("run", sweep, "--only-failed") == left_out
    progress = run_status(run.layout.root).progress
    new = {2} if kind != "stream" else set(range(10, 20))
    assert progress.done == before | new
    assert not progress.failed
    assert supsup("run", sweep, "--only-failed") == left_out
    assert "no task failed in the last run" in capsys.readouterr().out
    assert run_status(run.layout.root).progress == progress


def test_a_baseline_names_the_tasks_it_learned_where_a_k_was_not_measured(tmp_path, capsys):
    sweep = write(tmp_path, "baseline", evaluation="{at: [2, 6]}")
    assert supsup("run", sweep) == 0
    assert "GG not evaluated at k = 6: 4 tasks are trained\n" in capsys.readouterr().out
    assert supsup("run", sweep, "evaluation.at=[3]") == 1
    why = "4 tasks are trained, and a baseline is measured while it learns\n"
    assert f"GG not evaluated at k = 3: {why}" in capsys.readouterr().out


def test_a_memory_stands_for_masks_that_were_deleted_whoever_asks(tmp_path, capsys):
    """HopSupSup: README invites people to delete ``masks/`` once they are in the memory."""
    path = tmp_path / "hop.yaml"
    lines = {
        "name": "hop",
        "benchmark": "{kind: split, dataset: digits, num_tasks: 3}",
        "network": "{kind: bn_mlp, hidden: [64], outputs: 10}",
        "training": "{epochs: 1, batch_size: 32, optimizer: {kind: sgd}, cohort_size: 2}",
        "evaluation": "{scenarios: [GG, GNs], hopfield: {batch_size: 16}}",
    }
    path.write_text(sweep_text(tmp_path / "runs", **lines))
    assert supsup("run", path) == 0
    run, record = open_run(locate_run(load_sweep(path)).layout.root)
    shutil.rmtree(run.layout.masks)
    answers(path, run, record, capsys, is_whole=True)
    shutil.rmtree(run.layout.memories)
    answers(path, run, record, capsys, is_whole=False)
    assert supsup("run", path) == 0
    answers(path, run, record, capsys, is_whole=True)


def answers(path, run, record, capsys, *, is_whole):
    """Check what each command says of the run."""
    num_done = 3 if is_whole else 0
    assert training_stage(run.config).progress(run).num_done == num_done
    found = run_status(run.layout.root)
    assert (found.progress.num_done, found.num_left) == (num_done, 3 - num_done)
    assert found.state == ("finished" if is_whole else "stopped")
    capsys.readouterr()
    assert supsup("verify", run.layout.root) == (0 if is_whole else 1)
    assert ("trains the 3 missing tasks" in capsys.readouterr().out) == (not is_whole)
    assert supsup("plan", path) == 0
    assert f"{num_done} done, {3 - num_done} to train" in capsys.readouterr().out
    assert f"{num_done} of 3 tasks trained" in tracked_end(run, record).note
    (setting,) = plan_settings(
        load_sweep(path, ["search.space.seed=[3]"]),
    )
    assert (complete_results(setting.run) is not None) == is_whole


@pytest.mark.parametrize("kind", ["baseline", "stream"])
def test_a_task_tried_again_on_the_same_worker_ends_with_the_same_bits(tmp_path, monkeypatch, kind):
    """An attempt that fails half-way leaves weights in memory that are of no task."""
    files = {}
    for name in ("whole", "interrupted"):
        (tmp_path / name).mkdir()
        sweep = write(tmp_path / name, kind, executor="{kind: inline, engine: eager}")
        if name == "interrupted":
            fail_once(monkeypatch, after=70)
        assert supsup("run", sweep) == 0
        layout = locate_run(load_sweep(sweep)).layout
        states = sorted(path.name for path in layout.baseline.glob("*"))  # digests are in their names
        files[name] = states or locate_run(load_sweep(sweep)).store.info_table()["digest"].to_pylist()
    assert files["whole"] == files["interrupted"] != []


def fail_once(monkeypatch, after):
    """Let the disk fail in the update of a layer, once."""
    honest, calls = Optimizer.update, []

    def update(self, *arguments):
        calls.append(0)
        if len(calls) == after:
            raise OSError("the disk does not answer")
        honest(self, *arguments)

    monkeypatch.setattr(Optimizer, "update", update)
