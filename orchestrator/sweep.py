"""``supsup run``: train what is missing, evaluate, report; the same call resumes."""

import time
from dataclasses import dataclass
from pathlib import Path

from core.data.datasets import load_dataset
from orchestrator.cluster.preflight import check_nodes
from orchestrator.cluster.resources import find_resources
from orchestrator.config.sweep import SweepConfig
from orchestrator.evaluate import evaluate
from orchestrator.execution.controller import Failure
from orchestrator.execution.plan import plan_jobs
from orchestrator.execution.progress import Display
from orchestrator.report.build import draw_or_say
from orchestrator.runs.failures import read_failures, write_failures
from orchestrator.runs.lock import locked
from orchestrator.runs.results import Measured, write_report
from orchestrator.runs.run import Resources, Run, clean_temporaries, ensure_record, locate_run
from orchestrator.session import Phases, working
from orchestrator.stages.baseline import train_baseline
from orchestrator.stages.stream import train_stream
from storage.locations import remove_tree
from storage.mask_info import MaskFacts, mask_facts
from storage.verify import Verdict, quarantine, verify_masks


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a run came to. measured: as in summary.json. facts: of each task, in order."""

    run: Run
    num_trained: int
    failures: tuple[Failure, ...]
    measured: Measured
    facts: list[MaskFacts]
    elapsed_s: float


def run_sweep(
    config: SweepConfig, data_folder: Path | None, display: Display, *, only_failed: bool = False
) -> SweepResult:
    """Run a sweep to its end. Raises InputError before anything is written.

    data_folder: where the user keeps data sets, None for the cache or a download. only_failed:
        train nothing but the tasks that failed in the last run.
    """
    start_s = time.monotonic()
    run = locate_run(config)
    dataset = load_dataset(config.benchmark, data_folder)
    resources = find_resources(config.executor, connect=True)
    if config.executor.address is not None:
        check_nodes(config.storage.uri, display)
    with locked(run.layout):
        display.message(_begin_words(run, resources))
        clean_temporaries(run.layout)
        record = ensure_record(run, resources, dataset)
        verdict = _set_bad_files_aside(run, display)
        with working(run, record, dataset, resources, display) as phases:
            num_trained, failures = _train(phases, verdict, only_failed=only_failed)
            measured, evaluation_failures = evaluate(phases)
            write_report(run, measured)
            draw_or_say(run, record, display)
            clean_temporaries(run.layout)
            phases.end(failures + evaluation_failures)
        return SweepResult(
            run=run,
            num_trained=num_trained,
            failures=failures + evaluation_failures,
            measured=measured,
            facts=mask_facts(run.store),
            elapsed_s=time.monotonic() - start_s,
        )


def _begin_words(run: Run, resources: Resources) -> str:
    kind, num_workers = run.config.executor.kind, resources.num_workers
    where = (
        "in this process" if kind == "inline" else f"on {num_workers} Ray worker{'s' * (num_workers != 1)}"
    )
    return f"{run.name}: {run.config.benchmark.num_tasks} tasks, {where}"


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


def _set_bad_files_aside(run: Run, display: Display) -> Verdict:
    """Verify all masks and memories; move what is bad among their files out of the way and say so."""
    verdict = verify_masks(run.store)
    mask_files, memories = set(run.store.files()), run.layout.memories
    bad = [p for p in verdict.problems if p.path and (p.path in mask_files or p.path.parent == memories)]
    for problem, place in zip(bad, quarantine(run.store, bad), strict=True):
        again = "its tasks are trained again" if problem.path in mask_files else "it is made again"
        display.message(f"{problem.message}\n  moved to {place}; {again}")
    return verdict
