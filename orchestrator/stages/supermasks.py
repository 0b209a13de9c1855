"""Training supermasks with the task given: independent cohorts, or one after another with transfer."""

from orchestrator.execution.controller import Failure
from orchestrator.execution.plan import plan_jobs
from orchestrator.runs.history import read_failures, write_failures
from orchestrator.session import RunSession
from orchestrator.stages.baseline import train_baseline
from orchestrator.stages.stream import train_stream
from storage.locations import remove_tree
from storage.verify import Findings


def _train(session: RunSession, findings: Findings, *, only_failed: bool) -> tuple[int, tuple[Failure, ...]]:
    """Train what is missing; return how many masks were, and the failures."""
    if not session.run.config.training.is_given:
        num_trained, failures = train_stream(session, findings)
        write_failures(session.run, failures)
        return num_trained, failures
    if session.run.config.baseline is not None:
        num_trained, failures = train_baseline(session)
        write_failures(session.run, failures)
        return num_trained, failures
    num_tasks, size = session.run.config.benchmark.num_tasks, _cohort_size(session)
    _say_engine(session)
    failed = {row["task"] for row in read_failures(session.run)} - findings.tasks
    left_alone = set(range(num_tasks)) - failed if only_failed else set()
    plan = plan_jobs(num_tasks, size, findings.tasks | left_alone)
    if only_failed and not failed:
        session.display.message("no task failed in the last run; nothing to train again")
    elif not plan.jobs:
        session.display.message(f"all {num_tasks} tasks are trained; nothing to train")
    if session.run.config.training.transfer == "none":
        num_trained, failures = session.work("training", plan, num_tasks)
    else:
        jobs = plan.jobs
        failures = (
            session.work_in_order("training", jobs, num_done=plan.num_done, unit="tasks") if jobs else ()
        )
        num_trained = len(jobs) - sum(failure.job in jobs for failure in failures)
    write_failures(session.run, failures)
    if not failures:
        remove_tree(session.run.layout.saves)  # of cohorts that were cut otherwise meanwhile
    return num_trained, failures


def _cohort_size(session: RunSession) -> int:
    wanted, kept = session.run.config.training.cohort_size, session.record.cohort_size
    if wanted in ("auto", kept):
        return kept
    session.display.message(
        f"training.cohort_size={wanted}: this run was made with {kept}; missing tasks are cut by {wanted}"
    )
    return int(wanted)


def _say_engine(session: RunSession) -> None:
    wanted, kept = session.run.config.executor.engine, session.record.engine
    if wanted not in ("auto", kept):
        session.display.message(f"executor.engine={wanted}: this run was made with {kept}, which it keeps")
