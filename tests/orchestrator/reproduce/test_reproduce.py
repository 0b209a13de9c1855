"""Targets, verdicts and pages of ``supsup reproduce``."""

import json
from dataclasses import replace

import pytest

from core.errors import ConfigError
from orchestrator.config.load import load_sweep
from orchestrator.reproduce.measure import Measurement, session_ends, target_folders, values_at
from orchestrator.reproduce.targets import (
    Above,
    AtLeast,
    Near,
    NoDrop,
    PaperNumber,
    Target,
    TargetRun,
    check_settings,
    load_targets,
    sweeps_folder,
)
from orchestrator.reproduce.verdict import judge
from orchestrator.runs.history import Session
from tests.conftest import supsup, sweep_text

WAY = "GNu/one_shot-G-1/accuracy"


def measurement(value: float, k: int = 5, **changes) -> Measurement:
    fields = {
        "run": "ours",
        "seed": 0,
        "scenario": "GG",
        "method": "",
        "batches": "all",
        "metric": "accuracy",
    }
    return Measurement(**(fields | changes), k=k, value=value)


def target(*criteria, number: float | None = None) -> Target:
    paper = None if number is None else PaperNumber(percent=number, of="the paper's")
    words = dict.fromkeys(("title", "claim", "place", "differs"), "words")
    runs = (TargetRun(name="ours", sweep="a"), TargetRun(name="theirs", sweep="a"))
    return Target(name="T0", runs=runs, criteria=criteria, number=paper, **words)


def near(percent: float = 92.4) -> Near:
    return Near(kind="near", run="ours", metric="GG/accuracy", k=5, percent=percent, within_points=0.5)


def test_a_number_is_claimed_only_within_its_tolerance_and_the_distance_is_that_of_the_mean_over_seeds():
    measurements = [measurement(0.925), measurement(0.929, seed=1)]
    verdict = judge(target(near(), number=92.4), measurements)
    assert verdict.words == "within 0.30 points of the paper's 92.4 %"
    assert verdict.shown.accuracy == "92.70 ± 0.28 %"
    far = judge(target(near(93.5), number=93.5), measurements)
    assert far.words == "not reproduced"
    assert "92.70" in far.judged[0].words


def test_a_figure_alone_is_never_called_a_number():
    rule = AtLeast(kind="at_least", run="ours", metric="GG/accuracy", k=5, percent=90.0)
    assert (
        judge(target(rule), [measurement(0.91)]).words
        == "meets our criterion for the claim; the paper gives this as a figure only"
    )
    assert judge(target(rule), [measurement(0.89)]).words == "not reproduced"


def test_what_was_not_measured_is_not_judged():
    verdict = judge(target(near(), number=92.4), [measurement(0.924, k=2)])
    assert verdict.words == "not judged: ours: GG/accuracy was not measured at k = 5"
    assert judge(target(near(), number=92.4), []).words == "not run"


def test_less_than_the_target_is_said_in_the_verdict():
    verdict = judge(target(near(), number=92.4), [measurement(0.924)], ["benchmark.num_tasks=50"])
    assert verdict.words.endswith("(with benchmark.num_tasks=50)")


def test_seeds_that_are_missing_are_said_in_the_verdict():
    asked = target(near(), number=92.4)
    asked = replace(asked, runs=(replace(asked.runs[0], seeds=(0, 1, 2)),))
    two, third = [measurement(0.925), measurement(0.929, seed=1)], measurement(0.924, seed=2)
    assert judge(asked, two).words.endswith("(with 2 of 3 seeds of ours)")
    assert judge(asked, [*two, replace(third, metric="loss")]).words.endswith("(with 2 of 3 seeds of ours)")
    assert "seeds" not in judge(asked, [*two, third]).words


@pytest.mark.parametrize(("late", "holds"), [(0.921, True), (0.919, False), (0.95, True)])
def test_no_drop_looks_at_falls_alone(late, holds):
    rule = NoDrop(kind="no_drop", run="ours", metric=WAY, first=10, last=250, within_points=1.0)
    method = {"scenario": "GNu", "method": "one_shot-G-1"}
    assert (
        judge(target(rule), [measurement(0.931, 10, **method), measurement(late, 250, **method)])
        .judged[0]
        .holds
        is holds
    )


def test_a_better_value_than_the_number_is_no_failure():
    verdict = judge(target(near(), number=92.4), [measurement(0.94)])
    assert verdict.words == "1.60 points above the paper's 92.4 %"
    assert judge(target(near(), number=92.4), [measurement(0.918)]).words == "not reproduced"


def above_at(pairs: dict[int, tuple[float, float]]):
    rule = Above(kind="above", run="ours", metric="GG/accuracy", than="theirs", k="every")
    found = [measurement(ours, k) for k, (ours, _) in pairs.items()]
    return judge(
        target(rule), [*found, *(measurement(other, k, run="theirs") for k, (_, other) in pairs.items())]
    )


def test_above_at_every_k_says_from_where_on_it_holds():
    claim = "matches the claim; the paper gives this as a figure only"
    assert above_at({10: (0.95, 0.94), 50: (0.94, 0.83)}).words == claim
    mixed = above_at({10: (0.93, 0.94), 50: (0.94, 0.83), 250: (0.94, 0.7)})
    assert mixed.words == f"{claim}; above theirs from 50 tasks on, not at 10"
    assert "93.00 %, wanted above theirs, 94.00 %" in mixed.judged[0].words
    assert above_at({10: (0.95, 0.94), 50: (0.82, 0.83)}).words == "not reproduced"
    assert above_at({}).words == "not run"


def test_shares_stand_with_wilson_intervals_and_what_they_are_shares_of():
    found = {"accuracy": 0.9, "task_inference_accuracy": 1.0, "num_images": 1280.0}
    found |= {"num_inferences": 10.0, "num_deciding_images": 9.0}
    at = {"scenario": "GNu", "method": "one_shot-G-1"}
    rule = AtLeast(kind="at_least", run="ours", metric=WAY, k=5, percent=90.0)
    verdict = judge(target(rule), [measurement(value, metric=name, **at) for name, value in found.items()])
    assert verdict.shown.accuracy == "90.00 % (88.23 to 91.53; 1,280 images)"
    assert verdict.shown.right_task == "100.00 % (72.25 to 100.00; 10 inferences)"
    assert verdict.shown.num_deciding_images == "9"


@pytest.mark.parametrize(("other", "holds"), [(0.80, True), (0.85, False), (0.95, False)])
def test_above_compares_two_runs(other, holds):
    rule = Above(kind="above", run="ours", metric="GG/accuracy", than="theirs", k=5, by_points=10.0)
    measurements = [measurement(0.91), measurement(other, run="theirs")]
    assert judge(target(rule), measurements).judged[0].holds is holds


def test_the_most_test_batches_count():
    measurements = [measurement(0.5, batches="9"), measurement(0.6, batches="10")]
    assert values_at(measurements, "ours", "GG/accuracy", 5) == [0.6]
    assert values_at([*measurements, measurement(0.7)], "ours", "GG/accuracy", 5) == [0.7]


def test_a_killed_session_ends_with_its_last_mask():
    sessions = [
        Session(started_s=0.0, host="a"),
        Session(started_s=100.0, host="a", ended_s=130.0, status="FINISHED"),
        Session(started_s=200.0, host="a"),
    ]
    assert session_ends(sessions, [10.0, 40.0, 120.0]) == [40.0, 130.0, 200.0]


def test_every_target_is_a_valid_sweep_whose_criteria_it_measures():
    targets = load_targets([])
    assert [one.name for one in targets] == ["F2", *(f"T{i}" for i in range(1, 10)), "T9P"]
    for one in targets:
        folders = target_folders(one, [])
        assert len({run.name for _, _, run in folders}) == len(folders)
        for criterion in one.criteria:
            (runs,) = [[run for of, _, run in folders if of.name == criterion.run][:1]]
            config = runs[0].config
            k = criterion.last if isinstance(criterion, NoDrop) else criterion.k
            assert k == "every" or k in config.evaluation.ks(config.benchmark.num_tasks)


def test_what_would_make_another_experiment_is_refused():
    check_settings(["executor.workers=1", "storage.uri=s3://b/r", "benchmark.num_tasks=10"])
    with pytest.raises(ConfigError, match=r"training.steps: cannot be set"):
        check_settings(["training.steps=10"])
    with pytest.raises(ConfigError, match=r"target T77: expected some of F2, T1"):
        load_targets(["T77"])


@pytest.fixture
def own_targets(tmp_path, monkeypatch):
    """Write a target of the tiny sweep into a folder, and work there."""
    folder = tmp_path / "sweeps" / "targets"
    folder.mkdir(parents=True)
    text = sweep_text(
        tmp_path / "runs", evaluation="{scenarios: [GG, GNu], inference: {objective: G}, at: [2, 4]}"
    )
    (tmp_path / "sweeps" / "tiny.yaml").write_text(text)
    rule = f"{{kind: at_least, run: tiny, metric: {WAY}, k: 4, percent: 1.0}}"
    more = "[[evaluation.inference.objective=H]]"
    (folder / "T1.yaml").write_text(
        "title: tiny\nclaim: it learns\nplace: nowhere\ndiffers: in all\n"
        f"runs: [{{name: tiny, sweep: tiny.yaml, seeds: [0, 1], evaluate: {more}}}]\ncriteria: [{rule}]\n"
    )
    monkeypatch.chdir(tmp_path)
    assert sweeps_folder().resolve() == tmp_path / "sweeps"
    return tmp_path


def test_reproduce_runs_judges_and_then_runs_nothing(own_targets, capsys):
    assert supsup("reproduce", "t1", "--plain") == 0
    assert "meets our criterion for the claim" in capsys.readouterr().out
    out = own_targets / "runs" / "reproduce"
    values = json.loads((out / "T1.json").read_text())
    assert [run["seed"] for run in values["runs"]] == [0, 1]
    assert [run["num_tasks"] for run in values["runs"]] == [4, 4]
    assert values["wall_s"] > 0
    assert all(len(run["masks_sha256"]) == 64 for run in values["runs"])
    assert values["runs"][0]["config"]["training"]["steps"] == 60
    table = (out / "T1-points.csv").read_text()
    assert "one_shot-H-1" in table
    assert "one_shot-G-1" in table
    assert (out / "T1-accuracy.png").stat().st_size > 1000
    assert "| T1 | tiny | figure only |" in (out / "verdicts.md").read_text()
    masks = {path: path.stat().st_mtime_ns for path in own_targets.glob("runs/*/masks/*")}
    assert len(masks) == 4
    assert supsup("reproduce", "--plain") == 0
    assert capsys.readouterr().out.count("complete") == 2
    assert {path: path.stat().st_mtime_ns for path in masks} == masks
    (masks_of_one,) = {path.parent for path in list(masks)[:1]}
    for path in masks_of_one.glob("*"):
        path.unlink()
    assert supsup("reproduce", "--plain", "--read", "--out", "elsewhere") == 0
    read = json.loads((own_targets / "elsewhere" / "T1.json").read_text())
    assert sorted(run["num_tasks"] for run in read["runs"]) == [0, 4]
    assert supsup("reproduce", "T1", "--plain") == 0
    again = json.loads((out / "T1.json").read_text())
    assert [run["masks_sha256"] for run in again["runs"]] == [run["masks_sha256"] for run in values["runs"]]


def test_a_wrong_target_ends_with_2_and_writes_nothing(own_targets, capsys):
    for words in (["T9"], ["T1", "mask.rule=top_k"], ["T1", "data_dir=nowhere", "benchmark.num_tasks=0"]):
        assert supsup("reproduce", *words) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert not (own_targets / "runs").exists()


def test_the_source_tree_has_the_sweeps_where_the_folder_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_sweep(sweeps_folder() / "notebook_5.yaml").training.steps == 469
    assert replace(load_targets(["T1"])[0], name="T0").number.percent == 92.37
