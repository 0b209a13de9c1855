"""What goes from a run folder into summary.json and MLflow."""

import json
from pathlib import Path

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.results import Result, Results, read_results, write_report
from orchestrator.runs.run import locate_run
from storage.summary import read_summary

MEASURED = {
    "GG": {"2": {"accuracy": 0.9}, "10": {"accuracy": 0.8}},
    "GNu-b5": {"one_shot-G-1": {"10": {"accuracy": 0.7}}, "binary-H-128": {"10": {"accuracy": 0.6}}},
}
RESULTS = Results.from_json(MEASURED)
SUMMARIES = sorted((Path(__file__).parent / "summaries").glob("*.json"))  # of real runs, one of each kind


@pytest.fixture
def run(sweep, monkeypatch):
    """Return a run whose masks have a digest, though there are none."""
    sources = type("Sources", (), {"masks": staticmethod(lambda k: f"masks-of-{k}")})
    monkeypatch.setattr("orchestrator.runs.results.table_sources", lambda run, facts: sources)
    return locate_run(load_sweep(sweep))


@pytest.mark.parametrize("path", SUMMARIES, ids=lambda path: path.stem)
def test_results_of_real_runs_are_written_back_as_they_were(run, path):
    found = json.loads(path.read_text())
    write_report(run, Results.from_json(found))
    assert read_results(run).to_json() == read_summary(run.layout.summary)[0] == found
    content = run.layout.summary.read_bytes()
    write_report(run, Results())
    assert run.layout.summary.read_bytes() == content


def test_a_summary_of_an_older_version_says_nothing_of_its_masks_and_is_measured_again(run):
    run.layout.report.mkdir(parents=True)
    run.layout.summary.write_text(json.dumps(MEASURED))
    assert read_results(run) == Results()
    assert read_summary(run.layout.summary) == (MEASURED, {})


def test_results_on_other_masks_are_dropped(run, monkeypatch):
    write_report(run, RESULTS)
    sources = type("Sources", (), {"masks": staticmethod(lambda k: "masks-of-2" if k == 2 else "others")})
    monkeypatch.setattr("orchestrator.runs.results.table_sources", lambda run, facts: sources)
    assert [one.k for one in read_results(run)] == [2]


def test_an_edited_number_is_not_read(run):
    write_report(run, RESULTS)
    run.layout.summary.write_text(run.layout.summary.read_text().replace("0.9", "1.0"))
    assert read_results(run) == Results()


def test_a_summary_names_scenario_batches_method_and_k():
    given, _, inferred, _ = RESULTS
    assert given == Result(scenario="GG", num_batches=None, k=2, metrics={"accuracy": 0.9})
    place = {"scenario": "GNu", "method": "one_shot-G-1", "num_batches": 5, "k": 10}
    assert inferred == Result(**place, metrics={"accuracy": 0.7})


@pytest.mark.parametrize("content", [None, "", "{", '{"GG": {"all": {"accuracy": 1.0}}}'])
def test_a_summary_that_cannot_be_read_has_no_results(sweep, content):
    run = locate_run(load_sweep(sweep))
    if content is not None:
        run.layout.report.mkdir(parents=True)
        run.layout.summary.write_text(content)
    assert read_results(run) == Results()


@pytest.mark.parametrize(("batches", "gg", "gnu"), [("all", "GG", "GNu-b5"), ("5", "GG-all", "GNu")])
def test_metrics_are_short_for_the_runs_own_way_and_named_for_others(sweep, batches, gg, gnu):
    """Own: the way of inference, and the number of test batches."""
    settings = [f"evaluation.batches={batches}", "evaluation.inference.objective=G"]
    found = RESULTS.metrics_by_k(locate_run(load_sweep(sweep, settings)))
    assert set(found) == {
        (f"{gg}/accuracy", 2, 0.9),
        (f"{gg}/accuracy", 10, 0.8),
        (f"{gnu}/accuracy", 10, 0.7),
        (f"{gnu}/binary-H-128/accuracy", 10, 0.6),
    }


def test_a_summary_keeps_what_was_there_at_every_level(run):
    write_report(run, RESULTS)
    new = {"GG": {"3": {"accuracy": 0.5}}, "GNu-b5": {"one_shot-G-1": {"10": {"accuracy": 0.1}}}}
    write_report(run, Results.from_json(new))
    found = read_results(run).to_json()
    assert set(found["GG"]) == {"2", "3", "10"}
    assert found["GNu-b5"]["one_shot-G-1"]["10"] == {"accuracy": 0.1}
    assert found["GNu-b5"]["binary-H-128"] == MEASURED["GNu-b5"]["binary-H-128"]
    assert read_summary(run.layout.summary)[0] == found


def test_a_metric_that_is_not_measured_again_stays():
    old = Results.from_json({"GNs": {"hopfield-x": {"5": {"accuracy": 0.5, "recovered": 0.4}}}})
    new = Results.from_json({"GNs": {"hopfield-x": {"5": {"accuracy": 0.6}}}})
    assert old.merged(new).to_json()["GNs"]["hopfield-x"]["5"] == {"accuracy": 0.6, "recovered": 0.4}


def test_a_part_of_the_test_set_has_its_own_name():
    result = Result(scenario="GNu", method="one_shot-G-1", num_batches=None, k=2, metrics={})
    assert result.key == "GNu"
    assert Result(scenario="GNu", num_batches=5, k=2, metrics={}).key == "GNu-b5"


def test_asked_are_the_results_of_the_sweeps_own_method_and_batches_or_none_where_one_is_missing(sweep):
    own = ["evaluation.scenarios=[GNu]", "evaluation.inference.objective=G", "benchmark.num_tasks=10"]
    run = locate_run(load_sweep(sweep, [*own, "evaluation.at=[10]", "evaluation.batches=5"]))
    (asked,) = RESULTS.asked(run)
    assert (asked.method, asked.k) == ("one_shot-G-1", 10)
    for other in ("evaluation.at=[5,10]", "evaluation.at=[10]"):
        assert RESULTS.asked(locate_run(load_sweep(sweep, [*own, other]))) is None
