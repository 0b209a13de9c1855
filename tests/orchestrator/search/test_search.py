"""A search: its points come from the file, each is a run of its own, finished ones are not run again."""

import json
import re

import pytest

from core.errors import ConfigError
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.runs.search_file import search_folder
from orchestrator.search.search import run_search
from orchestrator.search.settings import plan_settings
from tests.conftest import supsup, sweep_text
from tests.orchestrator.fakes import Recorder

GRID = ["search.space.training.steps=[20,40]", "search.space.seed=[1,2]"]


def test_points_are_all_combinations_in_the_order_of_the_file(sweep):
    settings = plan_settings(load_sweep(sweep, GRID))
    assert [tuple(setting.values.values()) for setting in settings] == [(20, 1), (20, 2), (40, 1), (40, 2)]
    assert [(s.config.training.steps, s.config.seed, s.config.search) for s in settings][2] == (40, 1, None)
    assert len({locate_run(setting.config).layout.root for setting in settings}) == 4


def test_keys_with_dots_mean_the_same_as_nested_ones(sweep):
    text = sweep.read_text() + "search: {space: {training.steps: [20, 40], seed: [1, 2]}}\n"
    flat = sweep.with_name("flat.yaml")
    flat.write_text(text)
    assert load_sweep(flat) == load_sweep(sweep, GRID)


LONG_RAY = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]


@pytest.mark.parametrize(
    "executor", ["{kind: inline}", pytest.param("{kind: ray, workers: 2}", marks=LONG_RAY)]
)
def test_a_search_runs_every_point_and_the_same_again_trains_nothing(
    tmp_path, executor, request, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # relative paths are relative to here, in Tune's processes too
    if "ray" in executor:
        request.getfixturevalue("local_ray")
    path = tmp_path / "grid.yaml"
    path.write_text(sweep_text("runs", executor=executor))
    config = load_sweep(path, GRID)
    results = run_search(config, None, Recorder())
    assert [result.error for result in results] == [None] * 4
    assert [result.setting.values for result in results] == [s.values for s in plan_settings(config)]
    assert all(0.25 < result.metrics["GG/accuracy"] <= 1 for result in results)
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/masks/*.parquet")}
    grown = load_sweep(path, ["search.space.training.steps=[20,40,60]", GRID[1]])
    assert len(run_search(grown, None, Recorder())) == 6
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/masks/*.parquet")}
    assert {p: after[p] for p in written} == written
    assert len(after) == len(written) * 6 // 4


def test_the_command_prints_a_table_draws_a_figure_and_keeps_both(sweep, capsys):
    assert supsup("plan", sweep, *GRID) == 0
    assert capsys.readouterr().out.count("new") == 4
    assert supsup("run", sweep, *GRID) == 0
    shown = capsys.readouterr().out
    assert "GG" in shown
    folder = search_folder(load_sweep(sweep, GRID))
    rows = json.loads((folder / "search.json").read_text())["points"]
    assert next(row["settings"] for row in rows) == {"training.steps": 20, "seed": 1}
    assert (folder / "search.png").stat().st_size > 5000


def test_a_point_that_fails_is_named_and_the_others_are_kept(sweep, capsys):
    """A learning rate that float32 cannot hold."""
    code = supsup("run", sweep, "search.space.training.optimizer.lr=[0.01,1.0e+300]", "executor.retries=0")
    shown = capsys.readouterr().out
    assert code == 1
    assert "lr 1e+300: failed: train task 0" in shown
    rows = json.loads((search_folder(load_sweep(sweep, GRID)) / "search.json").read_text())["points"]
    assert [row["error"] is None for row in rows] == [True, False]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("search.space={}", ["search.space", "at least one key"]),
        ("search.space.seed=[]", ["search.space.seed", "a list of different values"]),
        ("search.space.seed=[1,1]", ["search.space.seed", "different"]),
        ("search.space.executor.workers=[1,2]", ["search.space", "executor.workers", "change no result"]),
    ],
)
def test_a_wrong_space_is_refused(sweep, setting, words):
    with pytest.raises(ConfigError) as refused:
        load_sweep(sweep, [setting])
    assert all(word in str(refused.value) for word in words)


def test_a_key_of_a_section_that_the_sweep_does_not_have_is_refused_in_words(sweep, capsys):
    assert supsup("run", sweep, "search.space.training.allocation.epsilon=[0.1,0.2]") == 2
    assert "none for task_identity: given" in capsys.readouterr().err


def test_points_that_share_their_masks_train_them_once(sweep):
    """What is evaluated, and how many tasks, does not change a mask."""
    config = load_sweep(
        sweep,
        [
            "search.space.benchmark.num_tasks=[2,4]",
            "search.space.evaluation.batches=[1,2]",
            "training.steps=3",
        ],
    )
    settings = plan_settings(config)
    assert len({setting.layout.root for setting in settings}) == 1
    results = run_search(config, None, Recorder())
    assert [result.state for result in results] == ["done"] * 4
    assert len(list(settings[0].layout.masks.iterdir())) == 2
    assert len({result.metrics["GG/accuracy"] for result in results}) > 1


def test_draws_depend_on_seed_key_and_number_alone(sweep):
    drawn = "search.space.training.optimizer.lr.loguniform=[1.0e-3,1.0e-1]"
    few = plan_settings(load_sweep(sweep, [drawn, "search.num_samples=3"]))
    more = plan_settings(
        load_sweep(sweep, [drawn, "search.num_samples=5", "search.space.training.steps=[20]"])
    )
    rates = [setting.config.training.optimizer.lr for setting in more]
    assert [setting.config.training.optimizer.lr for setting in few] == rates[:3]
    assert all(1e-3 <= rate <= 1e-1 for rate in rates)
    assert len(set(rates)) == 5
    whole = plan_settings(
        load_sweep(sweep, ["search.space.training.steps.uniform=[5,7]", "search.num_samples=40"])
    )
    assert {setting.config.training.steps for setting in whole} == {5, 6, 7}
    chosen = plan_settings(
        load_sweep(sweep, ["search.space.training.steps.choice=[5,9]", "search.num_samples=40"])
    )
    assert {setting.config.training.steps for setting in chosen} == {5, 9}


def test_a_changed_space_is_told_and_only_new_points_run(sweep):
    run_search(load_sweep(sweep, GRID), None, Recorder())
    told = Recorder()
    grown = load_sweep(sweep, ["search.space.training.steps=[20,60]", GRID[1]])
    results = run_search(grown, None, told)
    assert "the search space has changed since the last run: training.steps + 60 - 40" in told.messages
    assert "2 of 4 points done and kept, 2 to run" in told.messages
    assert [result.state for result in results] == ["done"] * 4


def test_a_search_over_seeds_tells_mean_and_spread(sweep, capsys):
    assert supsup("run", sweep, "search.space.seed=[1,2,3]", "training.steps=5") == 0
    shown = capsys.readouterr().out
    assert re.search(r"GG/accuracy \d\d\.\d\d % over 3 seeds, standard deviation \d", shown)
    assert "best" not in shown  # of seeds none is better
    assert supsup("run", sweep, "search.space.training.steps=[3,60]") == 0
    assert re.search(r"60 +100\.00 % +best", capsys.readouterr().out)


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.slow
def test_points_that_fall_behind_end_early_and_stay_ended(tmp_path, local_ray):
    path = tmp_path / "early.yaml"
    benchmark = "{kind: permuted, dataset: synthetic, num_tasks: 9}"
    training = "{steps: 100, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}, cohort_size: 1}"
    path.write_text(
        sweep_text(
            tmp_path / "runs",
            benchmark=benchmark,
            training=training,
            evaluation="{at: [9]}",
            executor="{kind: ray, workers: 2}",
        )
    )
    rules = [
        "search.space.training.steps=[200,150,2,1,3,4]",
        "search.scheduler=asha",
        "search.grace_tasks=2",
    ]
    results = run_search(load_sweep(path, rules), None, Recorder())
    states = [result.state for result in results]
    assert "failed" not in states
    assert "done" in states
    stopped = [result for result in results if result.state == "stopped"]
    assert stopped, states
    for result in stopped:
        assert result.metrics["num_tasks"] < 9
    again = Recorder()
    assert [result.state for result in run_search(load_sweep(path, rules), None, again)] == states
    assert "6 of 6 points done and kept, 0 to run" in again.messages


def test_missing_data_is_said_once_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SUPSUP_DATA", str(tmp_path / "nowhere"))
    path = tmp_path / "mnist.yaml"
    lines = {
        "benchmark": "{kind: permuted, dataset: mnist, num_tasks: 2}",
        "network": "{kind: mlp, hidden: [8], outputs: 10}",
    }
    path.write_text(sweep_text(tmp_path / "runs", evaluation="{}", **lines))
    assert supsup("run", path, "search.space.seed=[1,2]") == 2
    assert capsys.readouterr().err.count("nowhere") == 1
    assert not (tmp_path / "runs").exists()


def test_a_wrong_point_is_named_before_anything_runs(sweep, tmp_path, capsys):
    assert supsup("run", sweep, "search.space.training.steps=[20,0]") == 2
    assert "search point training.steps=0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
