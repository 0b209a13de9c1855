"""What was asked for and not evaluated is named with the reason, and the exit code is 1."""

import json
import shutil

import numpy as np
import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.worker import stream as stream_work
from tests.conftest import supsup, sweep_text
from tests.integration.test_progress import break_at, write


@pytest.fixture
def run(sweep):
    assert supsup("run", sweep) == 0
    return locate_run(load_sweep(sweep))


def one_mask_a_file(tmp_path, **changes):
    training = "{steps: 60, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}, cohort_size: 1}"
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text(tmp_path / "runs", **({"training": training} | changes)))
    assert supsup("run", path) == 0
    return path, locate_run(load_sweep(path))


def shown_by(capsys, code, *arguments):
    capsys.readouterr()
    assert supsup(*arguments) == code
    return capsys.readouterr().out


def test_evaluate_names_the_scenario_the_k_and_the_tasks_whose_masks_are_missing(tmp_path, capsys):
    _, run = one_mask_a_file(tmp_path, evaluation="{scenarios: [GG]}")
    run.store.locate()[1].unlink()
    shown = shown_by(capsys, 1, "evaluate", run.layout.root)
    assert "GNu not evaluated at k = 4: 3 tasks are trained, the mask of task 1 is missing\n" in shown
    run.store.locate()[2].unlink()
    shown = shown_by(capsys, 1, "evaluate", run.layout.root)
    assert "GNu not evaluated at k = 4: 2 tasks are trained, the masks of tasks 1-2 are missing\n" in shown


def test_each_k_has_its_own_reason_and_the_others_are_evaluated(tmp_path, capsys):
    _, run = one_mask_a_file(tmp_path)
    run.store.locate()[2].unlink()
    shown = shown_by(capsys, 1, "evaluate", run.layout.root, "evaluation.at=[2,3,4]")
    assert "GNu not evaluated at k = 3, 4: 3 tasks are trained, the mask of task 2 is missing\n" in shown
    assert "one_shot-G-1" in shown


def test_infer_names_the_tasks_that_it_does_not_search(tmp_path, capsys):
    _, run = one_mask_a_file(tmp_path)
    np.save(tmp_path / "image.npy", np.zeros((6, 6)))
    infer = ("infer", run.layout.root, tmp_path / "image.npy", "--json")
    assert supsup(*infer) == 0
    assert "searched" not in capsys.readouterr().err
    run.store.locate()[2].unlink()
    assert supsup(*infer) == 0
    shown = capsys.readouterr()
    assert shown.err == "only the first 2 of 4 tasks are searched: the mask of task 2 is missing\n"
    assert len(json.loads(shown.out)[0]["best"]) == 2
    assert supsup(*infer, "--k", 2) == 0
    assert "searched" not in capsys.readouterr().err


def test_json_names_them_too(tmp_path, capsys):
    _, run = one_mask_a_file(tmp_path, evaluation="{scenarios: [GG]}")
    run.store.locate()[3].unlink()
    result = json.loads(shown_by(capsys, 1, "evaluate", run.layout.root, "--json"))
    why = "3 tasks are trained, the mask of task 3 is missing"
    assert result["not_evaluated"] == [{"scenario": "GNu", "k": 4, "why": why}]
    assert result["from_before"] == ["GG-4"]


def test_a_k_beyond_the_run_that_evaluate_is_asked_for_is_not_done(run, capsys):
    """A sweep may ask for more, since its run can grow; the words of a command may not."""
    shown = shown_by(capsys, 1, "evaluate", run.layout.root, "evaluation.at=[2,50]")
    assert "GNu not evaluated at k = 50: 4 tasks are trained\n" in shown
    assert supsup("evaluate", run.layout.root, "evaluation.at=[2]") == 0


def test_stored_numbers_are_marked_and_new_ones_are_not(run, sweep, capsys):
    shown = shown_by(capsys, 0, "evaluate", run.layout.root)
    gg = next(line for line in shown.splitlines() if line.startswith("GG accuracy over the first 4"))
    assert gg.endswith("(measured before)")
    assert "measured" not in shown.replace("(measured before)", "")  # GNu is new, and needs no column
    shown = shown_by(capsys, 0, "evaluate", run.layout.root, "evaluation.at=[3,4]")
    rows = {line.split()[2]: line.split()[-1] for line in shown.splitlines() if " one_shot-G-1" in line}
    assert rows == {"3": "now", "4": "before"}
    shown = shown_by(capsys, 0, "run", sweep)
    assert shown.count("(measured before)") == 2
    assert shown_by(capsys, 0, "run", sweep, "evaluation.at=[3]").count("(measured before)") == 1


def test_what_was_just_trained_is_measured_now(run, sweep, capsys):
    shown = shown_by(capsys, 0, "run", sweep, "benchmark.num_tasks=6", "evaluation.at=[4,6]")
    lines = [line for line in shown.splitlines() if line.startswith("GG accuracy")]
    assert [line.endswith("(measured before)") for line in lines] == [True, False]


def test_a_baseline_says_what_it_did_not_measure(tmp_path, capsys):
    sweep = write(tmp_path, "baseline", evaluation="{at: [2, 4]}")
    assert supsup("run", sweep) == 0
    shown = shown_by(capsys, 1, "run", sweep, "evaluation.at=[3,4]")
    assert "GG not evaluated at k = 3: 4 tasks are trained, and a baseline is measured while it" in shown
    assert "(measured before)" in shown


def test_a_stream_names_the_masks_that_are_missing(tmp_path, capsys):
    sweep = write(tmp_path, "stream")
    assert supsup("run", sweep) == 0
    run = locate_run(load_sweep(sweep))
    masks = run.store.locate()
    masks[max(masks)].unlink()
    shown = shown_by(capsys, 1, "evaluate", run.layout.root)
    left, number = len(masks) - 1, max(masks)
    why = f"{left} of {left + 1} masks exist, mask {number} is missing"
    assert f"NNs not evaluated at k = 4: {why}\n" in shown


def test_a_stream_that_has_not_ended_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    sweep = write(tmp_path, "stream")
    with monkeypatch.context() as patch:
        break_at(patch, 12)
        shown = shown_by(capsys, 1, "run", sweep)
    assert "NNs not evaluated at k = 4: the stream has not ended: " in shown


def test_hopsupsup_names_masks_and_memory(tmp_path, capsys):
    path = tmp_path / "hop.yaml"
    lines = {
        "benchmark": "{kind: split, dataset: digits, num_tasks: 3}",
        "network": "{kind: bn_mlp, hidden: [64], outputs: 10}",
        "training": "{epochs: 1, batch_size: 32, optimizer: {kind: sgd}, cohort_size: 1}",
        "evaluation": "{scenarios: [GG, GNs], hopfield: {batch_size: 16}}",
    }
    path.write_text(sweep_text(tmp_path / "runs", **lines))
    assert supsup("run", path) == 0
    run = locate_run(load_sweep(path))
    run.store.locate()[1].unlink()
    shutil.rmtree(run.layout.memories)
    shown = shown_by(capsys, 1, "evaluate", run.layout.root)
    why = "2 tasks are trained, the mask of task 1 is missing, and no hebbian memory holds these 3 masks"
    assert (
        f"GNs not evaluated at k = 3: {why.replace('hebbian', run.config.evaluation.hopfield.rule)}\n"
        in shown
    )


@pytest.mark.parametrize("kind", ["supermasks", "baseline", "stream"])
def test_only_failed_says_what_it_leaves_untrained(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.setattr(stream_work, "CHECKPOINT_S", 0.0)
    sweep = write(tmp_path, kind)
    with monkeypatch.context() as patch:
        break_at(patch, 12 if kind == "stream" else 2)
        assert supsup("run", sweep) == 1
    run = locate_run(load_sweep(sweep))
    if kind == "supermasks":
        run.layout.cohort(0, 1).unlink()
    shown = shown_by(capsys, 1, "run", sweep, "--only-failed")
    words = {
        "supermasks": "2 of 4 tasks are done, not tasks 0-1; ",
        "baseline": "3 of 4 tasks are done, not task 3; ",
        "stream": "20 of 65 decisions are done; ",
    }
    assert f"{words[kind]}`supsup run {run.layout.root}` trains the rest\n" in shown
    assert supsup("run", run.layout.root) == 0
