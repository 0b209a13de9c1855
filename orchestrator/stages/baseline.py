"""Running a baseline: one task after another by one worker at a time, measured at each k on the way."""

from pathlib import Path

import numpy as np

from core.errors import DamagedFileError
from core.specs.inference import InferenceSpec
from orchestrator.execution.controller import Failure
from orchestrator.execution.jobs import InferenceRequest, Job
from orchestrator.runs.results import Measured, scenario_key, test_batches
from orchestrator.runs.run import Run
from orchestrator.session import RunSession
from orchestrator.stages.inferred import merge_parts, request_metrics
from storage.checkpoints import num_learned
from storage.layout import TableKey
from storage.tables import read_evaluation, task_accuracies


def train_baseline(session: RunSession) -> tuple[int, tuple[Failure, ...]]:
    """Learn the tasks that are left; return how many were, and the failure."""
    run = session.run
    num_tasks, num_done = run.config.benchmark.num_tasks, num_learned(run.layout)
    if num_done >= num_tasks:
        session.display.message(f"all {num_tasks} tasks are learned; nothing to train")
        return 0, ()
    ks = run.config.evaluation.ks(num_tasks)
    jobs = [
        Job(first=t, last=t, kind="baseline", request=_request(run, t + 1) if t + 1 in ks else None)
        for t in range(num_done, num_tasks)
    ]
    failures = session.work_in_order("training", jobs, num_done=num_done, unit="tasks")
    return num_learned(run.layout) - num_done, failures


def measure_baseline(run: Run) -> Measured:
    """Return what the tables of a baseline say, at each k that was measured."""
    measured: Measured = {}
    scenarios = run.config.evaluation.inferred_scenarios
    for k in run.config.evaluation.ks(run.config.benchmark.num_tasks):
        request = _request(run, k)
        try:
            table = read_evaluation(
                run.layout.evaluation(TableKey("GG", k, request.num_batches)), run.fingerprint
            )
        except DamagedFileError:
            continue  # not measured: the run went on past k before k was asked for
        mean = float(np.mean(list(task_accuracies(table).values())))
        measured.setdefault(scenario_key(run, "GG"), {})[str(k)] = {"accuracy": mean}
        if scenarios:
            merge_parts(run, request)
            for scenario, metrics in request_metrics(run, request).items():
                by_label = measured.setdefault(scenario_key(run, scenario), {})
                by_label.setdefault(request.label, {})[str(k)] = metrics
    return measured


def _request(run: Run, k: int) -> InferenceRequest:
    inference = run.config.evaluation.inference or InferenceSpec(objective="H")
    return InferenceRequest(inference=inference, k=k, num_batches=test_batches(run), bank=Path())
