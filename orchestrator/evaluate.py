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
from orchestrator.execution.jobs import InferenceRequest
from orchestrator.execution.plan import join_plans, plan_jobs
from orchestrator.execution.progress import Display
from orchestrator.report.build import draw_or_say
from orchestrator.report.stream_figures import draw_stream
from orchestrator.runs.lock import locked
from orchestrator.runs.record import check_dataset, clean_temporaries
from orchestrator.runs.results import Measured, finished_log, scenario_key, test_batches, write_report
from orchestrator.runs.run import Run, open_run
from orchestrator.session import RunSession, open_session
from orchestrator.stages.baseline import measure_baseline
from orchestrator.stages.given import _given
from orchestrator.stages.inferred import (
    inferred_tasks,
    is_answered,
    merge_parts,
    request_metrics,
    stored_table,
)
from orchestrator.stages.recovered import evaluate_recovery, has_memory
from storage.bank_file import bank_path, make_bank, num_leading
from storage.decisions import score_rows
from storage.locations import Location

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
    root: Location, settings: Sequence[str], data_folder: Path | None, display: Display
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
        with open_session(run, record, dataset, resources, display) as session:
            measured, failures = evaluate(session)
            write_report(run, measured)
            draw_or_say(run, record, display)
            session.end(failures)
    return EvaluationResult(
        run=run, failures=failures, measured=measured, elapsed_s=time.monotonic() - start_s
    )


def evaluate(session: RunSession) -> tuple[Measured, tuple[Failure, ...]]:
    """Answer what the sweep asks at every k whose tasks are trained; files that are there stand."""
    measured: Measured = {}
    failures: tuple[Failure, ...] = ()
    if session.run.config.baseline is not None:
        return measure_baseline(session.run), ()
    if "GG" in session.run.config.evaluation.asked:
        given, failures = _given(session)
        measured |= given
    if session.run.config.evaluation.inferred_scenarios:
        masks_outputs = session.run.config.network.masks_outputs
        inferred, more = evaluate_recovery(session) if masks_outputs else _inferred(session)
        measured, failures = measured | inferred, failures + more
    return measured, failures


def _inferred(session: RunSession) -> tuple[Measured, tuple[Failure, ...]]:
    run = session.run
    requests = _requests(run)
    if not requests:
        return {}, ()
    open_requests = [request for request in requests if not is_answered(run, request)]
    if open_requests:
        make_bank(run.store, open_requests[0].bank)
    plan = join_plans(
        plan_jobs(q.k, INFERENCE_BLOCK_TASKS, inferred_tasks(run, q), "infer", q) for q in open_requests
    )
    verb = f"inferring tasks ({run.config.evaluation.method.label})"
    _, failures = session.work(verb, plan, sum(request.k for request in open_requests))
    measured: Measured = {}
    for request in open_requests:
        merge_parts(run, request)
    for request in requests:
        for scenario, metrics in request_metrics(run, request).items():
            by_k = measured.setdefault(scenario_key(run, scenario), {}).setdefault(
                request.inference.label, {}
            )
            by_k[str(request.k)] = metrics | _stream_metrics(run, request)
    return measured, failures


def _stream_metrics(run: Run, request: InferenceRequest) -> dict[str, float]:
    """Return the counts of ``AllocationScore`` for a stream without task ids, else nothing; draw it."""
    rows = None if request.homes is None else finished_log(run)
    scored = stored_table(run, request, "NNs")
    if rows is None or scored is None:
        return {}
    draw_stream(run, rows, scored)
    score = asdict(score_rows(rows))
    return {key: float(value) for key, value in score.items() if key.startswith("num_")}


def _requests(run: Run) -> list[InferenceRequest]:
    """Return one question per k that is trained."""
    evaluation = run.config.evaluation
    assert evaluation.inference is not None, "masks on weights are searched by inference"
    if not run.config.training.is_given:
        return _stream_requests(run, evaluation.inference)
    most = num_leading(run.store)
    ks = [k for k in evaluation.ks(run.config.benchmark.num_tasks) if k <= most]
    if not ks:
        return []
    bank = bank_path(run.store)
    return [
        InferenceRequest(inference=evaluation.inference, k=k, num_batches=test_batches(run), bank=bank)
        for k in ks
    ]


def _stream_requests(run: Run, inference: InferenceSpec) -> list[InferenceRequest]:
    """Return the question at the end of a stream without task ids; none before that."""
    rows = finished_log(run)
    homes = score_rows(rows).homes if rows else ()
    if not homes or num_leading(run.store) < len(homes):
        return []
    return [
        InferenceRequest(
            inference=inference,
            k=run.config.benchmark.num_tasks,
            num_batches=test_batches(run),
            bank=bank_path(run.store),
            homes=homes,
        )
    ]
