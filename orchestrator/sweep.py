"""``supsup run``: train missing tasks, evaluate and report; the same call resumes."""

import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from core.data.datasets import load_dataset
from core.errors import RunFolderError, plural
from orchestrator.cluster.launch import start_ahead
from orchestrator.cluster.local_ray import LocalRay
from orchestrator.cluster.resources import check_nodes, find_resources
from orchestrator.config.sweep import SweepConfig
from orchestrator.evaluate import EvaluationResult, evaluate
from orchestrator.execution.plan import number_ranges
from orchestrator.execution.progress import Display
from orchestrator.report.build import draw_or_warn
from orchestrator.report.text import left_out_words
from orchestrator.runs.accuracy_matrix import write_matrices
from orchestrator.runs.dataset import require_method_code
from orchestrator.runs.forgotten import forgotten_words
from orchestrator.runs.history import write_failures
from orchestrator.runs.lock import locked
from orchestrator.runs.record import clean_temporaries, ensure_record
from orchestrator.runs.results import write_report
from orchestrator.runs.run import Run, locate_run
from orchestrator.runs.sizing import Resources
from orchestrator.session import RunSession, StageResult, open_session
from orchestrator.stages import require_independent, training_stage
from orchestrator.stages.base import Progress, RunContext
from orchestrator.stages.gaps import find_gaps
from orchestrator.tracking.registry import check_trackers
from storage.mask_facts import MaskFacts
from storage.mask_info import MaskInfo
from storage.verify import quarantine, verify_masks


@dataclass(frozen=True, kw_only=True)
class SweepResult(EvaluationResult):
    """The result of a run. infos: of each task, in order. progress: of the training.

    only: the tasks that were asked for, None for all.
    """

    infos: list[MaskInfo]
    progress: Progress
    only: frozenset[int] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether everything is trained and evaluated, or all tasks that were asked for are trained."""
        if self.only is not None:
            return not self.failures and self.only <= self.progress.done
        return super().is_complete and self.progress.is_complete


def run_sweep(
    config: SweepConfig,
    data_folder: Path | None,
    display: Display,
    *,
    only_failed: bool = False,
    only: Collection[int] | None = None,
    show: Callable[[SweepResult], None] | None = None,
) -> SweepResult:
    """Run a sweep to its end. Raises InputError before anything is written.

    data_folder: the user's data sets, None for the cache or a download. only_failed: train only the tasks
    that failed in the last run. only: train only these tasks, None for all. show: takes the result as soon as it is stored, before figures are drawn
    and MLflow has all of it.
    """
    start_s = time.monotonic()
    if only is not None:
        require_independent(config, "--tasks")
    run = locate_run(config)
    require_method_code(run)
    check_trackers(run)
    with display.doing(f"reading {config.benchmark.dataset}"):
        dataset = load_dataset(config.benchmark, data_folder)
    left_out = left_out_words(dataset.left_out)
    if left_out is not None:
        display.message(left_out)
    resources = find_resources(config.executor, connect=True)
    if config.executor.address is not None:
        check_nodes(config.storage.uri, display)
    with locked(run.layout):
        display.message(_begin_words(run, resources))
        if resources.note is not None:
            display.message(resources.note)
        clean_temporaries(run.layout)
        with _ray_ahead(run, resources) as local:
            record = ensure_record(run, resources, dataset)
            facts = _set_bad_files_aside(run, display)
            _tell_forgotten(facts, only, display)
            context = RunContext(
                run=run, record=record, dataset=dataset, message=display.message, facts=facts
            )
            with open_session(context, resources, display, local) as session:
                trained = _train(session, only_failed=only_failed, only=only)
                evaluated, failures = evaluate(session)
                results, facts = trained.results.merged(evaluated), session.context.facts
                with display.doing("writing the report"):
                    write_report(run, results, facts)
                    write_matrices(run, facts)
                    run.store.keep_facts(facts)
                result = SweepResult(
                    run=run,
                    num_trained=trained.num_trained,
                    failures=trained.failures + failures,
                    results=results,
                    infos=facts.infos(),
                    gaps=find_gaps(run, results, facts.files),
                    progress=training_stage(config).progress(run, files=facts.files),
                    elapsed_s=time.monotonic() - start_s,
                    only=None if only is None else frozenset(only),
                )
                if show is not None:
                    show(result)
                with display.doing("drawing the figures"):
                    draw_or_warn(run, record, display, facts)
                clean_temporaries(run.layout)
                session.end(result.failures)
        return replace(result, elapsed_s=time.monotonic() - start_s)


def _ray_ahead(run: Run, resources: Resources) -> AbstractContextManager[LocalRay | None]:
    """Start Ray, or join it, if there is something to train, while the rest of the start-up goes on."""
    is_complete = training_stage(run.config).progress(run).is_complete
    return nullcontext() if is_complete else start_ahead(run.config, resources)


def _begin_words(run: Run, resources: Resources) -> str:
    kind, num_workers = run.config.executor.kind, resources.num_workers
    where = "in this process" if kind == "inline" else f"on {plural(num_workers, 'Ray worker')}"
    device = f", {resources.device}" if resources.on_gpu else ""
    return f"{run.name}: {plural(run.config.benchmark.num_tasks, 'task')}, {where}{device}"


def _train(session: RunSession, *, only_failed: bool, only: Collection[int] | None) -> StageResult:
    """Train the missing tasks, or only those that are asked for or failed in the last run; record the failures."""
    run = session.context.run
    stage = training_stage(run.config)
    if only_failed:
        failed = stage.progress(run, files=session.context.facts.files).failed.keys()
        only = failed if only is None else failed & set(only)
        if not only:
            session.display.message("no task failed in the last run, so there is nothing to train again")
    result = session.run(stage, only)
    write_failures(run, result.failures)
    return result


def _tell_forgotten(facts: MaskFacts, only: Collection[int] | None, display: Display) -> None:
    """Say which tasks are forgotten. Raises RunFolderError if one of them was asked for by name."""
    words = forgotten_words(facts.files.forgotten)
    asked = facts.files.forgotten & set(only or ())
    if asked:
        raise RunFolderError(
            f"--tasks: found {number_ranges(asked)}, which this run has forgotten; remove the tombstones in "
            f"{facts.files.folder} to train them again"
        )
    if words is not None:
        display.message(words)


def _set_bad_files_aside(run: Run, display: Display) -> MaskFacts:
    """Verify all masks and memories; quarantine bad files and report them. Return the facts of the good ones."""
    findings = verify_masks(run.store)
    facts, memories = findings.facts, run.layout.memories
    mask_files = {run.layout.masks / name for name in facts.files.names}
    bad = [p for p in findings.problems if p.path and (p.path in mask_files or p.path.parent == memories)]
    for problem, path in zip(bad, quarantine(run.store, bad), strict=True):
        again = "its tasks will be trained again" if problem.path in mask_files else "it will be made again"
        display.message(f"{problem.message}\n  moved to {path}; {again}")
    return run.store.facts(before=facts) if bad else facts
