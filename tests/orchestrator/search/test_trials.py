"""What the scheduler of a search hears of a trial: tasks trained so far, and their mean accuracy."""

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.search.settings import plan_settings
from orchestrator.search.trials import group_settings, run_trial
from orchestrator.sweep import run_sweep
from storage.layout import TableKey
from storage.tables import read_evaluation, task_accuracies
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder

KINDS = {
    "supermasks": {"evaluation": "{scenarios: [GG, GNu], at: [4]}"},
    "baseline": {
        "baseline": "{kind: psp}",
        "training": "{steps: 30, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}}",
        "evaluation": "{at: [4]}",
    },
}


def write(folder, kind):
    folder.mkdir(exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(sweep_text(folder / "runs", **KINDS[kind]))
    return path


def reports(path):
    """Run the only trial of a search; return its reports."""
    settings = plan_settings(load_sweep(path, ["search.space.seed=[3]"]))
    (trial,) = group_settings(list(enumerate(settings)))
    told = []
    (end,) = run_trial(trial, None, lambda num_tasks, accuracy: told.append((num_tasks, accuracy)))
    assert end.error is None
    return told


@pytest.mark.parametrize(("kind", "expected"), [("supermasks", [2, 4]), ("baseline", [1, 2, 3, 4])])
def test_each_training_job_is_reported_and_no_evaluation(tmp_path, kind, expected):
    told = reports(write(tmp_path, kind))
    assert [num_tasks for num_tasks, _ in told] == expected
    assert all(0 < accuracy <= 1 for _, accuracy in told)


def test_supermasks_that_are_resumed_report_what_they_would_have(tmp_path):
    path = write(tmp_path, "supermasks")
    run_sweep(load_sweep(path, ["benchmark.num_tasks=2"]), None, Recorder())
    assert reports(path) == reports(write(tmp_path / "whole", "supermasks"))[1:]


@pytest.mark.parametrize("is_measured", [True, False])
def test_a_resumed_baseline_reports_all_its_tasks(tmp_path, is_measured):
    """Of tasks learned before, the last table has the accuracies; without one, new tasks alone have any."""
    path = write(tmp_path, "baseline")
    config = load_sweep(path, ["benchmark.num_tasks=2"])
    run_sweep(config, None, Recorder())
    run = locate_run(config)
    table = run.layout.evaluation(TableKey("GG", 2))
    before = list(task_accuracies(read_evaluation(table, run.fingerprint, "")).values())
    if not is_measured:
        table.unlink()
        before = []
    whole = reports(write(tmp_path / "whole", "baseline"))
    sums = [num_tasks * accuracy for num_tasks, accuracy in whole]
    new = [sums[2] - sums[1], sums[3] - sums[2]]
    third, fourth = reports(path)
    assert third == (3, pytest.approx((sum(before) + new[0]) / (len(before) + 1)))
    assert fourth == (4, pytest.approx((sum(before) + sum(new)) / (len(before) + 2)))
