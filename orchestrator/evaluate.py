"""Evaluation of stored masks: scenario GG, and GNs and GNu by task inference; no training."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import RunFolderError
from orchestrator.cluster.resources import find_resources
from orchestrator.config.load import change_settings
from orchestrator.config.sweep import SweepConfig
from orchestrator.execution.controller import Failure
from orchestrator.execution.progress import Display
from orchestrator.report.build import draw_or_warn
from orchestrator.runs.accuracy_matrix import write_matrices
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.dataset import run_dataset
from orchestrator.runs.lock import locked
from orchestrator.runs.record import clean_temporaries
from orchestrator.runs.results import Results, write_report
from orchestrator.runs.run import Run, open_run, require_inferable, require_run_code
from orchestrator.session import RunSession, open_session
from orchestrator.stages import evaluation_stages, training_stage
from orchestrator.stages.base import RunContext
from orchestrator.stages.gaps import Gap, find_gaps
from orchestrator.tracking.registry import check_trackers
from storage.hopfield_file import num_remembered
from storage.locations import Location

SECTIONS = ("evaluation", "executor", "tracking", "data_dir")  # what `supsup evaluate` may change


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """The result of an evaluation. gaps: what was asked for and not evaluated."""

    run: Run
    failures: tuple[Failure, ...]
    results: Results
    gaps: tuple[Gap, ...]
    elapsed_s: float
    num_trained: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether everything asked for is evaluated."""
        return not self.failures and all(gap.is_allowed for gap in self.gaps)


def evaluate_run(
    root: Location, settings: Sequence[str], data_folder: Path | None, display: Display
) -> EvaluationResult:
    """Evaluate the masks of a run folder under other settings. Raises InputError.

    settings: key=value of ``SECTIONS``. If neither they nor the run ask for a scenario with the task
    inferred, GNu is evaluated (GNs for masks on outputs).
    """
    start_s = time.monotonic()
    opened, record = open_run(root)
    require_run_code(opened)
    if not training_stage(opened.config).has_masks:
        raise RunFolderError(
            f"{root} is a baseline, which is measured while it learns; expected a run of supermasks. Its sweep under "
            "another name measures it at other k"
        )
    config = change_settings(opened.config, settings, SECTIONS)
    if not config.evaluation.inferred_scenarios and not any("scenarios" in s for s in settings):
        more = "GNs" if config.evaluation.hopfield is not None else "GNu"
        config = change_settings(config, [f"evaluation.scenarios=[GG,{more}]"], SECTIONS)
    require_inferable(config)
    run = replace(opened, config=config)
    check_trackers(run)
    facts = run.store.facts()
    if not facts.files.leading and not num_remembered(run.layout, run.fingerprint):
        again = supsup_command("run", root, config=config)
        raise RunFolderError(f"{root} has no mask of task 0; `{again}` trains it")
    with display.doing(f"reading {config.benchmark.dataset}"):
        dataset = run_dataset(run, record, data_location(config, data_folder))
    resources = find_resources(config.executor, connect=True)
    with locked(run.layout):
        clean_temporaries(run.layout)
        facts = run.store.facts(before=facts)  # somebody else may have held the lock until now
        context = RunContext(run=run, record=record, dataset=dataset, message=display.message, facts=facts)
        with open_session(context, resources, display) as session:
            results, failures = evaluate(session)
            with display.doing("writing the report"):
                write_report(run, results, facts)
                write_matrices(run, facts)
                draw_or_warn(run, record, display, facts)
                run.store.keep_facts(facts)
            session.end(failures)
    # A sweep may name k that its run has yet to grow to; here they are asked for now.
    may_exceed = not any(setting.startswith("evaluation.at") for setting in settings)
    return EvaluationResult(
        run=run,
        failures=failures,
        results=results,
        gaps=find_gaps(run, results, facts.files, may_exceed=may_exceed),
        elapsed_s=time.monotonic() - start_s,
    )


def data_location(config: SweepConfig, default: Path | None) -> Path | None:
    """Return the folder of data sets that the sweep names, else ``default``."""
    return default if config.data_dir is None else Path(config.data_dir).expanduser()


def evaluate(session: RunSession) -> tuple[Results, tuple[Failure, ...]]:
    """Evaluate the sweep's scenarios at each k whose tasks are trained; existing tables are kept."""
    results = Results()
    failures: tuple[Failure, ...] = ()
    for stage in evaluation_stages(session.context.run.config):
        ended = session.run(stage)
        results, failures = results.merged(ended.results), failures + ended.failures
    return results, failures
