"""What goes from a run folder into summary.json and MLflow."""

import json

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.results import metrics_by_k, read_summary, scenario_key, write_report
from orchestrator.runs.run import locate_run

MEASURED = {
    "GG": {"2": {"accuracy": 0.9}, "10": {"accuracy": 0.8}},
    "GNu-b5": {"one_shot-G-1": {"10": {"accuracy": 0.7}}, "binary-H-128": {"10": {"accuracy": 0.6}}},
}


@pytest.mark.parametrize(("batches", "gg", "gnu"), [("all", "GG", "GNu-b5"), ("5", "GG-all", "GNu")])
def test_metrics_are_short_for_the_runs_own_way_and_named_for_others(sweep, batches, gg, gnu):
    """Own: the way of inference, and the number of test batches."""
    settings = [f"evaluation.batches={batches}", "evaluation.inference.objective=G"]
    found = metrics_by_k(MEASURED, load_sweep(sweep, settings))
    assert set(found) == {
        (f"{gg}/accuracy", 2, 0.9),
        (f"{gg}/accuracy", 10, 0.8),
        (f"{gnu}/accuracy", 10, 0.7),
        (f"{gnu}/binary-H-128/accuracy", 10, 0.6),
    }


def test_a_summary_keeps_what_was_there_at_every_level(sweep):
    run = locate_run(load_sweep(sweep))
    write_report(run, MEASURED)
    write_report(run, {"GG": {"3": {"accuracy": 0.5}}, "GNu-b5": {"one_shot-G-1": {"10": {"accuracy": 0.1}}}})
    found = read_summary(run)
    assert set(found["GG"]) == {"2", "3", "10"}
    assert found["GNu-b5"]["one_shot-G-1"]["10"] == {"accuracy": 0.1}
    assert found["GNu-b5"]["binary-H-128"] == MEASURED["GNu-b5"]["binary-H-128"]
    assert json.loads(run.layout.summary.read_text()) == found


def test_a_part_of_the_test_set_has_its_own_name(sweep):
    assert scenario_key(locate_run(load_sweep(sweep)), "GNu") == "GNu"
    assert scenario_key(locate_run(load_sweep(sweep, ["evaluation.batches=5"])), "GNu") == "GNu-b5"
