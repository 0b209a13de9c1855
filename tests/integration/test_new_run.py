"""A setting that makes a new run is named; a run folder is resumed with the sweep stored in it."""

import json
import shutil

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from tests.conftest import supsup, sweep_text


@pytest.fixture
def run(sweep):
    assert supsup("run", sweep) == 0
    return locate_run(load_sweep(sweep))


def shown_by(capsys, code, *arguments):
    capsys.readouterr()
    assert supsup(*arguments) == code
    shown = capsys.readouterr()
    return shown.out if code in (0, 1) else " ".join(shown.err.split())


def lines_about_new_runs(shown: str) -> list[str]:
    return [line for line in shown.splitlines() if "new run" in line]


def test_a_setting_that_makes_a_new_run_is_named_by_run_and_plan(run, sweep, capsys):
    expected = [f"new run; differs from {run.name} (4 tasks) in training.steps: 60 -> 20"]
    for command in ("plan", "run"):
        shown = shown_by(capsys, 0, command, sweep, "training.steps=20")
        assert lines_about_new_runs(shown) == expected
        assert lines_about_new_runs(shown_by(capsys, 0, command, sweep)) == []
    assert lines_about_new_runs(shown_by(capsys, 0, "run", sweep, "training.steps=20")) == []


def test_it_is_held_against_the_run_that_is_most_like_it(run, sweep, capsys):
    assert supsup("run", sweep, "training.steps=20", "seed=5") == 0
    other = locate_run(load_sweep(sweep, ["training.steps=20", "seed=5"]))
    shown = shown_by(capsys, 0, "plan", sweep, "training.steps=20", "seed=6")
    assert lines_about_new_runs(shown) == [f"new run; differs from {other.name} (4 tasks) in seed: 5 -> 6"]
    shown = shown_by(capsys, 0, "plan", sweep, "mask.rule=top_k", "mask.density=0.5")
    (line,) = lines_about_new_runs(shown)
    assert line.endswith("in mask.density: null -> 0.5, mask.rule: threshold -> top_k")
    assert run.name in line


def test_a_first_run_one_of_another_name_and_more_tasks_are_nothing_to_speak_of(tmp_path, sweep, capsys):
    assert lines_about_new_runs(shown_by(capsys, 0, "run", sweep)) == []
    for setting in ("name=tiny-2", "benchmark.num_tasks=6", "training.cohort_size=3", "evaluation.at=[1]"):
        assert lines_about_new_runs(shown_by(capsys, 0, "plan", sweep, setting)) == []
    (folder,) = (tmp_path / "runs").iterdir()
    (folder / "run.json").write_text("{")
    assert lines_about_new_runs(shown_by(capsys, 0, "plan", sweep, "seed=9")) == []


def test_the_number_of_tasks_is_named_for_a_stream(tmp_path, capsys):
    training = (
        "{task_identity: none, steps: 60, batch_size: 16, allocation: {decide_every: 5, epsilon: 0.35}}"
    )
    path = tmp_path / "stream.yaml"
    path.write_text(sweep_text(tmp_path / "runs", training=training, evaluation="{scenarios: [NNs]}"))
    assert supsup("run", path) == 0
    (line,) = lines_about_new_runs(shown_by(capsys, 0, "plan", path, "benchmark.num_tasks=3"))
    assert line.endswith("(4 tasks) in benchmark.num_tasks: 4 -> 3")


def test_a_run_made_by_an_earlier_recipe_has_no_key_that_differs(run, sweep, capsys, monkeypatch):
    from orchestrator.config import sweep as sweep_module

    shown = run.layout.run_file.read_text().replace(run.fingerprint, "0" * 64)
    other = run.layout.root.with_name("tiny-00000000")
    run.layout.root.rename(other)
    (other / "run.json").write_text(shown)
    assert sweep_module.RECIPE == 2
    assert lines_about_new_runs(shown_by(capsys, 0, "plan", sweep)) == [
        "new run; tiny-00000000 (4 tasks) has the same settings, but was made by another version of supsup"
    ]


def test_a_run_folder_resumes_with_the_sweep_stored_in_it(tmp_path, sweep, capsys):
    """The sweep file was run with settings, and is not needed any more."""
    assert supsup("run", sweep, "training.steps=20", "evaluation.at=[1,4]") == 0
    run = locate_run(load_sweep(sweep, ["training.steps=20"]))
    sweep.unlink()
    run.layout.cohort(2, 3).unlink()
    shown = shown_by(capsys, 0, "run", run.layout.root)
    assert "trained 2 tasks" in shown
    assert "GG accuracy over the first 1 task:" in shown
    shown = shown_by(capsys, 0, "run", run.name, "benchmark.num_tasks=6", "--storage", tmp_path / "runs")
    assert "trained 2 tasks" in shown
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.name]
    assert json.loads(run.layout.run_file.read_text())["num_tasks"] == 6


def test_a_run_folder_that_was_moved_resumes_where_it_is(run, tmp_path, capsys):
    moved = tmp_path / "elsewhere" / run.name
    moved.parent.mkdir()
    shutil.move(run.layout.root, moved)
    next((moved / "masks").glob("*.parquet")).unlink()
    assert "trained 2 tasks" in shown_by(capsys, 0, "run", moved)
    assert not run.layout.root.exists()


@pytest.mark.parametrize("setting", ["training.steps=20", "seed=4", "name=other", "storage.uri=other"])
def test_a_run_folder_with_a_setting_of_another_run_is_refused(run, tmp_path, monkeypatch, capsys, setting):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    shown = shown_by(capsys, 2, "run", run.layout.root, setting)
    assert setting.partition("=")[0] in shown
    assert "would make another run" in shown
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_folder_cannot_search(run, capsys):
    assert "search" in shown_by(capsys, 2, "run", run.layout.root, "search.space.seed=[1,2]")


def test_neither_a_sweep_file_nor_a_run(run, sweep, tmp_path, capsys):
    shown = shown_by(capsys, 2, "run", "nosuch", "--storage", tmp_path / "runs")
    assert "'nosuch'" in shown
    assert run.name in shown
    assert "nosuch.yaml" in shown_by(capsys, 2, "run", "nosuch.yaml")
    shown = shown_by(capsys, 2, "run", sweep, "--storage", tmp_path)
    assert "expected storage.uri=" in shown


def test_plan_explains_its_ids(sweep, capsys):
    shown = " ".join(shown_by(capsys, 0, "plan", sweep).split())
    assert "(of everything that the masks depend on; its first 8 digits name the folder)" in shown
    assert "(the name and a hash of the sweep file, for `ray submit`)" in shown
    shown = " ".join(shown_by(capsys, 0, "plan", sweep, "search.space.seed=[1,2]").split())
    assert "(the name and a hash of the sweep file, for `ray submit`)" in shown
