"""The output of commands: result tables and suggestions for the next command."""

import json
from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.table import Column, Table

from core.errors import first_line, plural
from orchestrator.cluster.resources import find_resources
from orchestrator.config.own_data import data_folder
from orchestrator.config.sweep import SweepConfig
from orchestrator.evaluate import EvaluationResult
from orchestrator.execution.controller import Failure
from orchestrator.execution.plan import number_ranges
from orchestrator.report.estimate import Work, estimate_rows
from orchestrator.report.findings import mask_warnings
from orchestrator.report.tables import print_results
from orchestrator.report.text import byte_words, duration, percent, print_plain, short, sweep_words
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.estimate import estimate_run, read_earlier
from orchestrator.runs.lock import locked
from orchestrator.runs.made_from import verify_derived
from orchestrator.runs.nearest import new_run_note
from orchestrator.runs.run import Run, locate_run, open_run
from orchestrator.runs.sizing import Resources, cohort_size, peak_bytes
from orchestrator.stages import training_stage
from orchestrator.stages.base import Progress
from orchestrator.sweep import SweepResult
from orchestrator.tracking.registry import check_trackers
from orchestrator.watcher import error_key, task_list
from storage.locations import Location
from storage.mask_info import MaskInfo
from storage.run_file import read_run
from storage.verify import Findings, quarantine, verify_masks

MAX_TASK_ROWS = 20
NUM_WORST = 5
NUM_NEXT = 3
KEY_WIDTH = 12


def print_result(console: Console, result: SweepResult) -> None:
    """Print the tasks (if many, the worst), accuracy by k, and failures."""
    if result.infos:
        console.print(_task_table(result))
    print_results(console, result.results, result.gaps)
    for words in mask_warnings(result.infos):
        print_plain(console, f"warning: {words}")
    if result.failures:
        console.print(_failure_table(result.failures))
    elif not result.progress.is_complete:
        print_plain(console, _untrained(result.run, result.progress))


def print_evaluation(console: Console, result: EvaluationResult) -> None:
    """Print accuracy by scenario and k, failures, and the location of the tables."""
    print_results(console, result.results, result.gaps)
    if result.failures:
        console.print(_failure_table(result.failures))
    where = short(result.run.layout.evaluations)
    print_plain(console, f"evaluated in {duration(result.elapsed_s)}; tables: {where}")


def print_plan(console: Console, config: SweepConfig, identity: str | None) -> None:
    """Print what ``supsup run`` would do.

    identity: of the sweep file (``orchestrator.cluster.submission.sweep_id``), None without one.
    """
    run = locate_run(config)
    check_trackers(run)
    resources = find_resources(config.executor, connect=False)
    exists = run.layout.run_file.exists()
    size = read_run(run.layout).cohort_size if exists else cohort_size(run, resources)
    findings = verify_masks(run.store, quick=True) if exists else None
    weights = sum(layer.num_weights for layer in run.layers)
    table = Table("", Column(overflow="fold"), show_header=False, box=None)
    for key, value in (
        ("run folder", f"{run.layout.root} ({'exists' if exists else 'new'})"),
        (
            "fingerprint",
            f"{run.fingerprint}\n(of everything that the masks depend on; its first 8 digits name the folder)",
        ),
        *([] if identity is None else [("sweep", sweep_words(identity))]),
        *training_stage(config).describe(run, size, findings),
        (
            "network",
            f"{config.network.kind}, {weights:,} weights, {plural(config.network.outputs, 'output')}",
        ),
        ("workers", _workers_words(resources, config.executor.kind)),
        ("memory", f"{peak_bytes(run, size) / 1e6:,.0f} MB per worker, in addition to the data set"),
        *_estimate_rows(run, size, resources, findings),
        ("evaluate", ", ".join(config.evaluation.asked)),
        ("at k =", ", ".join(map(str, config.evaluation.ks(config.benchmark.num_tasks)))),
    ):
        table.add_row(key, value)
    console.print(table)
    for problem in () if findings is None else findings.problems:
        print_plain(console, f"{problem.kind}: {problem.message}")
    note = new_run_note(config)
    if note is not None:
        print_plain(console, note)


def _workers_words(resources: Resources, kind: str) -> str:
    words = f"{resources.num_workers} ({kind})"
    if not resources.on_gpu:
        return words
    shared = resources.workers_per_device
    return f"{words}, {f'{shared} on a GPU' if shared > 1 else 'a GPU each'}: {resources.device}"


def _estimate_rows(
    run: Run, size: int, resources: Resources, findings: Findings | None
) -> list[tuple[str, str]]:
    """Return the rows on time and bytes; none for work without masks of its own for each task."""
    stage = training_stage(run.config)
    if not (stage.has_masks and run.config.training.is_given):
        return [("time, bytes", "not estimated for streams and baselines")]
    progress = stage.progress(run, findings)
    num_left = progress.num_total - progress.num_done
    num_workers = 1 if stage.in_order else resources.num_workers
    rounds = min(num_left, size * -(-num_left // (size * num_workers)))
    estimate = estimate_run(run, read_earlier(run.config), on_gpu=resources.on_gpu)
    return estimate_rows([Work(estimate=estimate, num_left=num_left, rounds=rounds)], num_workers, size)


def verify_and_print(
    console: Console,
    root: Location,
    *,
    repair: bool,
    is_partial: bool = False,
    quick: bool = False,
    deep: bool = False,
) -> bool:
    """Verify a run and print its problems; with ``repair``, move bad files. Return whether all is well now.

    is_partial: whether its search ended it early, so that the tasks left are none of its faults. quick: compare
    names, sizes and headers, without reading what has not changed. deep: test the good masks again.
    """
    run, _ = open_run(root)
    stage = training_stage(run.config)
    if repair and stage.has_masks:
        with locked(run.layout):
            findings = verify_masks(run.store, quick=quick)
            moved = quarantine(run.store, findings.problems)
            facts = run.store.facts(before=findings.facts)
            derived = verify_derived(run, facts, quick=quick)
            moved += quarantine(run.store, [problem for problem in derived if problem.kind != "old"])
    else:
        findings, moved = verify_masks(run.store, quick=quick), []
        derived = verify_derived(run, findings.facts, quick=quick)
        run.store.keep_facts(findings.facts)
    verification = stage.verify(run, findings)
    for problem in (*findings.problems, *derived, *(() if is_partial else verification.problems)):
        print_plain(console, f"{problem.kind}: {problem.message}" if problem.path else problem.message)
    if derived:
        print_plain(console, "tables, summaries and banks are made again by the next run or evaluation")
    if len(findings.provenances) > 1:
        made = "; ".join(", ".join(words) for words in findings.provenances)
        print_plain(
            console,
            f"note: the masks were not all made in the same way (engine, device, torch, instructions, BLAS): {made}",
        )
    for line in verification.summary:
        print_plain(console, line)
    if repair and stage.has_masks:
        print_plain(
            console,
            f"moved {plural(len(moved), 'bad file')} to {run.layout.quarantine}"
            if moved
            else "nothing to move",
        )
    if is_partial:
        print_plain(console, "its search ended it early")
    elif verification.advice is not None:
        print_plain(console, verification.advice)
    is_true = not deep or _print_remeasured(console, run, findings)
    is_whole = (verification.is_whole or is_partial) and is_true
    is_good = not findings.problems and all(problem.kind == "old" for problem in derived)
    is_repaired = repair and stage.has_masks
    return is_whole and (is_good or is_repaired)


def _print_remeasured(console: Console, run: Run, findings: Findings) -> bool:
    """Test the masks of a run again; return whether all accuracies are as stored."""
    from orchestrator.cli.display import make_display
    from orchestrator.remeasure import remeasure  # imports torch

    if not (training_stage(run.config).has_masks and run.config.training.is_given):
        print_plain(console, "nothing is measured again: its tasks have no masks of their own")
        return True
    found = remeasure(run, findings.facts, data_folder(run.config.data_dir), make_display(console))
    for line in found.problems:
        print_plain(console, line)
    if not found.problems:
        print_plain(
            console, f"{plural(found.num_tasks, 'task')} measured again: as their files and tables say"
        )
    return not found.problems


def _task_table(result: SweepResult) -> Table:
    rows = result.infos
    noun = training_stage(result.run.config).noun
    title = f"{result.run.name}: {plural(len(rows), noun)}"
    if len(rows) > MAX_TASK_ROWS:
        rows = sorted(rows, key=lambda one: one.test_accuracy)[:NUM_WORST]
        title += f", the {NUM_WORST} worst"
    named = ("task", "accuracy (GG)") if noun == "task" else ("mask", "accuracy on its task")
    table = Table(*named, "train loss", "density", "train seconds", title=title)
    for one in rows:
        table.add_row(
            str(one.task),
            percent(one.test_accuracy),
            f"{one.train_loss:.3f}",
            f"{one.density:.3f}",
            f"{one.train_seconds:.2f}",
        )
    return table


def _failure_table(failures: Sequence[Failure]) -> Table:
    """Return a table with one row per distinct error."""
    title = "failed; run the same command to try again"
    table = Table("what", Column("tasks", overflow="fold"), "attempts", "why", title=title)
    groups: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.job.kind, error_key(failure.error)), []).append(failure)
    for (kind, why), group in groups.items():
        attempts = sorted({failure.num_attempts for failure in group})
        shown = first_line(group[0].error) if len(group) == 1 else why
        tasks = task_list([failure.job for failure in group])
        table.add_row(kind, tasks, "-".join(map(str, {attempts[0]: 0, attempts[-1]: 0})), shown[:200])
    return table


def print_overview(console: Console, result: SweepResult) -> None:
    """Print a summary of the run and three commands to try next."""
    for key, value in _rows(result):  # no table: it would truncate paths
        print_plain(console, f"{key:<{KEY_WIDTH}}{value}")
    print_plain(console, "next:")
    for command, what in next_commands(result.run, result.failures)[:NUM_NEXT]:
        print_plain(console, f"  {command}")
        print_plain(console, f"      {what}")


def _untrained(run: Run, progress: Progress) -> str:
    """Return what ``--only-failed`` left out, as text."""
    left = progress.left
    noun = "tasks" if len(left) > 1 else "task"
    which = f", not {noun} {number_ranges(left)}" if progress.unit == "tasks" else ""
    rest = supsup_command("run", short(run.layout.root), config=run.config)
    return f"{progress} are done{which}; `{rest}` trains the rest"


def _rows(result: SweepResult) -> list[tuple[str, str]]:
    run, infos, num_trained, failures = result.run, result.infos, result.num_trained, result.failures
    noun, progress = training_stage(run.config).noun, result.progress
    now = f"trained {plural(num_trained, noun)} in" if num_trained else _nothing_words(progress)
    num_done = 0 if progress.unit == "decisions" else progress.num_done
    done = f"{plural(num_done, noun)} done, {now} {duration(result.elapsed_s)}"
    rows = [("done", f"{done}; {plural(len(failures), 'job')} failed" if failures else done)]
    if infos:
        worst = min(infos, key=lambda one: one.test_accuracy)
        accuracy = percent(mean(one.test_accuracy for one in infos))
        rows += [
            (
                "accuracy",
                f"{accuracy} with the task given; worst: {noun} {worst.task}, {percent(worst.test_accuracy)}",
            ),
            ("density", f"{mean(one.density for one in infos):.3g} of the weights kept"),
            ("stored", _stored(run, infos)),
        ]
    rows.append(("run folder", short(run.layout.root)))
    page = run.layout.report / "report.html"
    if page.exists():
        rows.append(("report", short(page)))
    return rows


def _nothing_words(progress: Progress) -> str:
    return "nothing new to train;" if progress.is_complete else "trained none in"


def _stored(run: Run, infos: Sequence[MaskInfo]) -> str:
    sizes = [one.num_bytes for one in infos]
    norms = mean(one.num_norm_bytes for one in infos)
    beside = f", and {byte_words(norms)} of running statistics" if run.identity.network.get("norms") else ""
    return f"{byte_words(sum(sizes))} of masks, {byte_words(mean(sizes))} each{beside}"


def next_commands(run: Run, failures: Sequence[Failure]) -> list[tuple[str, str]]:
    """Return (command, description), the most useful first; only what can work on what is there."""
    name, config = short(run.layout.root), run.config
    hints: list[tuple[list[str], str]] = []
    if failures:
        hints.append((["logs", name], "why tasks failed; running the sweep again retries them"))
    if config.tracking.uri:
        hints.append((["ui", name], "browse the run: every task, its curves, the figures"))
    if not training_stage(config).has_masks:
        hints.append((["report", name], "its figures"))
    else:
        hints += _mask_hints(run, name)
    return [(supsup_command(*words, config=config), what) for words, what in hints]


def _mask_hints(run: Run, name: str) -> list[tuple[list[str], str]]:
    """Return (words, description) of commands for a run of masks."""
    hints, config = [], run.config
    files = run.store.locate()
    can_search = config.can_answer and bool(files.leading)
    if can_search and config.evaluation.inferred_scenarios:
        another = "evaluation.inference.algorithm=exhaustive"
        hints.append((["evaluate", name, another], "infer the task in another way, with the same masks"))
        if config.tracking.uri and config.network.import_path is None:
            hints.append(
                (["export", name, "--mlflow"], "log the masks as a model that can be served over HTTP")
            )
    elif can_search:
        hints.append((["evaluate", name], "infer the task of each image, with the same masks"))
    hints.append((["verify", name], "check every mask"))
    if training_stage(config).progress(run, files=files).is_complete:
        hints.append((["export", name, "--out", "exported"], "the masks as safetensors files"))
    return hints


def result_json(result: EvaluationResult) -> str:
    """Return the result of a run or an evaluation as indented JSON. Fractions in [0, 1], seconds."""
    run = result.run
    failed = [
        {"job": str(failure.job), "attempts": failure.num_attempts, "error": first_line(failure.error)}
        for failure in result.failures
    ]
    content = {
        "run": run.name,
        "folder": str(run.layout.root),
        "fingerprint": run.fingerprint,
        "num_tasks": run.config.benchmark.num_tasks,
        "num_trained": result.num_trained,
        "failures": failed,
        "measured": result.results.to_json(),
        "from_before": [str(one.table) for one in result.results if one.is_stored],
        "not_evaluated": [{"scenario": gap.scenario, "k": gap.k, "why": gap.why} for gap in result.gaps],
        "elapsed_s": round(result.elapsed_s, 3),
    }
    return json.dumps(content, indent=2)
