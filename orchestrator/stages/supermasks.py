"""Training supermasks with the task given: independent cohorts, or one after another with transfer."""

from orchestrator.execution.controller import Failure
from orchestrator.execution.plan import plan_jobs
from orchestrator.runs.history import read_failures, write_failures
from orchestrator.session import Phases
from orchestrator.stages.baseline import train_baseline
from orchestrator.stages.stream import train_stream
from storage.locations import remove_tree
from storage.verify import Verdict


def _train(phases: Phases, verdict: Verdict, *, only_failed: bool) -> tuple[int, tuple[Failure, ...]]:
    """Train what is missing; return how many masks were, and the failures."""
    if not phases.run.config.training.is_given:
        num_trained, failures = train_stream(phases, verdict)
        write_failures(phases.run, failures)
        return num_trained, failures
    if phases.run.config.baseline is not None:
        num_trained, failures = train_baseline(phases)
        write_failures(phases.run, failures)
        return num_trained, failures
    num_tasks, size = phases.run.config.benchmark.num_tasks, _cohort_size(phases)
    _say_engine(phases)
    failed = {row["task"] for row in read_failures(phases.run)} - verdict.tasks
    left_alone = set(range(num_tasks)) - failed if only_failed else set()
    plan = plan_jobs(num_tasks, size, verdict.tasks | left_alone)
    if only_failed and not failed:
        phases.display.message("no task failed in the last run; nothing to train again")
    elif not plan.jobs:
        phases.display.message(f"all {num_tasks} tasks are trained; nothing to train")
    if phases.run.config.training.transfer == "none":
        num_trained, failures = phases.work("training", plan, num_tasks)
    else:
        jobs = plan.jobs
        failures = (
            phases.work_in_order("training", jobs, num_done=plan.num_done, unit="tasks") if jobs else ()
        )
        num_trained = len(jobs) - sum(failure.job in jobs for failure in failures)
    write_failures(phases.run, failures)
    if not failures:
        remove_tree(phases.run.layout.saves)  # of cohorts that were cut otherwise meanwhile
    return num_trained, failures


def _cohort_size(phases: Phases) -> int:
    wanted, kept = phases.run.config.training.cohort_size, phases.record.cohort_size
    if wanted in ("auto", kept):
        return kept
    phases.display.message(
        f"training.cohort_size={wanted}: this run was made with {kept}; missing tasks are cut by {wanted}"
    )
    return int(wanted)


def _say_engine(phases: Phases) -> None:
    wanted, kept = phases.run.config.executor.engine, phases.record.engine
    if wanted not in ("auto", kept):
        phases.display.message(f"executor.engine={wanted}: this run was made with {kept}, which it keeps")
