"""Evaluation of stored masks: scenario GG, and GNs and GNu by task inference; no training."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.data.datasets import load_dataset
from core.errors import RunFolderError
from core.specs.inference import InferenceSpec
from orchestrator.cluster.resources import find_resources
from orchestrator.config.load import change_settings
from orchestrator.execution.controller import Failure
from orchestrator.execution.jobs import Question
from orchestrator.execution.plan import join_plans, plan_jobs
from orchestrator.execution.progress import Display
from orchestrator.report.build import draw_or_say
from orchestrator.report.stream_figures import draw_stream
from orchestrator.runs.lock import locked
from orchestrator.runs.record import check_dataset, clean_temporaries
from orchestrator.runs.results import Measured, scenario_key, test_batches, write_report
from orchestrator.runs.run import Run, open_run
from orchestrator.session import Phases, working
from orchestrator.stages.baseline import measure_baseline
from orchestrator.stages.given import _given
from orchestrator.stages.inferred import (
    inferred_tasks,
    is_answered,
    merge_parts,
    question_metrics,
    stored_table,
)
from orchestrator.stages.recovered import evaluate_recovery, has_memory
from orchestrator.stages.stream import finished_log
from storage.bank_file import bank_path, make_bank, num_leading
from storage.decisions import score_rows
from storage.locations import AnyPath

INFERENCE_BLOCK_TASKS = 8  # tasks of one job: seconds at 2500 tasks, so a crash loses little
SECTIONS = ("evaluation", "executor", "tracking", "data_dir")  # what `supsup evaluate` may change


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """What an evaluation came to. measured: as in summary.json."""

    run: Run
    failures: tuple[Failure, ...]
    measured: Measured
    elapsed_s: float
    num_trained: int = 0


def evaluate_run(
    root: AnyPath, settings: Sequence[str], data_folder: Path | None, display: Display
) -> EvaluationResult:
    """Evaluate the masks of a run folder under other settings. Raises InputError.

    settings: key=value of ``SECTIONS``. Where neither they nor the run ask for a scenario with
    the task inferred, GNu is evaluated (GNs for masks on outputs).
    """
    start_s = time.monotonic()
    opened, record = open_run(root)
    if opened.config.baseline is not None:
        raise RunFolderError(
            f"{root} is a baseline, measured while it learns; expected a run of supermasks. `supsup run` with "
            "another name measures it at other k"
        )
    config = change_settings(opened.config, settings, SECTIONS)
    if not config.evaluation.inferred_scenarios and not any("scenarios" in s for s in settings):
        more = "GNs" if config.network.masks_outputs else "GNu"
        config = change_settings(config, [f"evaluation.scenarios=[GG,{more}]"], SECTIONS)
    run = replace(opened, config=config)
    if not num_leading(run.store) and not has_memory(run):
        raise RunFolderError(f"{root} has no mask of task 0; run the sweep first")
    folder = data_folder if config.data_dir is None else Path(config.data_dir).expanduser()
    dataset = load_dataset(config.benchmark, folder)
    check_dataset(run.layout, record, dataset)
    resources = find_resources(config.executor, connect=True)
    with locked(run.layout):
        clean_temporaries(run.layout)
        with working(run, record, dataset, resources, display) as phases:
            measured, failures = evaluate(phases)
            write_report(run, measured)
            draw_or_say(run, record, display)
            phases.end(failures)
    return EvaluationResult(
        run=run, failures=failures, measured=measured, elapsed_s=time.monotonic() - start_s
    )


def evaluate(phases: Phases) -> tuple[Measured, tuple[Failure, ...]]:
    """Answer what the sweep asks at every k whose tasks are trained; files that are there stand."""
    measured: Measured = {}
    failures: tuple[Failure, ...] = ()
    if phases.run.config.baseline is not None:
        return measure_baseline(phases.run), ()
    if "GG" in phases.run.config.evaluation.asked:
        given, failures = _given(phases)
        measured |= given
    if phases.run.config.evaluation.inferred_scenarios:
        masks_outputs = phases.run.config.network.masks_outputs
        inferred, more = evaluate_recovery(phases) if masks_outputs else _inferred(phases)
        measured, failures = measured | inferred, failures + more
    return measured, failures


def _inferred(phases: Phases) -> tuple[Measured, tuple[Failure, ...]]:
    run = phases.run
    questions = _questions(run)
    if not questions:
        return {}, ()
    open_questions = [question for question in questions if not is_answered(run, question)]
    if open_questions:
        make_bank(run.store, open_questions[0].bank)
    plan = join_plans(
        plan_jobs(q.k, INFERENCE_BLOCK_TASKS, inferred_tasks(run, q), "infer", q) for q in open_questions
    )
    verb = f"inferring tasks ({run.config.evaluation.way.label})"
    _, failures = phases.work(verb, plan, sum(question.k for question in open_questions))
    measured: Measured = {}
    for question in open_questions:
        merge_parts(run, question)
    for question in questions:
        for scenario, metrics in question_metrics(run, question).items():
            by_k = measured.setdefault(scenario_key(run, scenario), {}).setdefault(
                question.inference.label, {}
            )
            by_k[str(question.k)] = metrics | _stream_metrics(run, question)
    return measured, failures


def _stream_metrics(run: Run, question: Question) -> dict[str, float]:
    """Return the counts of ``AllocationScore`` for a stream without task ids, else nothing; draw it."""
    rows = None if question.homes is None else finished_log(run)
    scored = stored_table(run, question, "NNs")
    if rows is None or scored is None:
        return {}
    draw_stream(run, rows, scored)
    score = asdict(score_rows(rows))
    return {key: float(value) for key, value in score.items() if key.startswith("num_")}


def _questions(run: Run) -> list[Question]:
    """Return one question per k that is trained."""
    evaluation = run.config.evaluation
    assert evaluation.inference is not None, "masks on weights are searched by inference"
    if not run.config.training.is_given:
        return _stream_questions(run, evaluation.inference)
    most = num_leading(run.store)
    points = [k for k in evaluation.points(run.config.benchmark.num_tasks) if k <= most]
    if not points:
        return []
    bank = bank_path(run.store)
    return [
        Question(inference=evaluation.inference, k=k, num_batches=test_batches(run), bank=bank)
        for k in points
    ]


def _stream_questions(run: Run, inference: InferenceSpec) -> list[Question]:
    """Return the question at the end of a stream without task ids; none before that."""
    rows = finished_log(run)
    homes = score_rows(rows).homes if rows else ()
    if not homes or num_leading(run.store) < len(homes):
        return []
    return [
        Question(
            inference=inference,
            k=run.config.benchmark.num_tasks,
            num_batches=test_batches(run),
            bank=bank_path(run.store),
            homes=homes,
        )
    ]
