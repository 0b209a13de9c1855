"""What commands print when they are done: tables and the next thing to do."""

import json
from collections import Counter
from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.table import Column, Table

from core.errors import first_line
from core.stream.schedule import num_decisions, plan_visits
from orchestrator.cluster.resources import find_resources
from orchestrator.config.sweep import SweepConfig
from orchestrator.evaluate import EvaluationResult
from orchestrator.execution.controller import Failure
from orchestrator.execution.plan import plan_jobs
from orchestrator.report.tables import print_measured
from orchestrator.report.text import byte_words, duration, percent, say, short
from orchestrator.runs.lock import locked
from orchestrator.runs.results import num_expected_masks
from orchestrator.runs.run import Run, locate_run, open_run
from orchestrator.runs.sizing import cohort_size, peak_bytes
from orchestrator.sweep import SweepResult
from orchestrator.watcher import error_key, task_list
from storage.checkpoints import num_learned, read_baseline
from storage.locations import Location
from storage.mask_info import MaskInfo
from storage.run_file import read_run
from storage.verify import quarantine, verify_masks

MAX_TASK_ROWS = 20
NUM_WORST = 5
NUM_NEXT = 3
KEY_WIDTH = 12


def print_result(console: Console, result: SweepResult) -> None:
    """Print the tasks (the worst, when they are many), accuracy by k, failures, what it came to."""
    if result.facts:
        console.print(_task_table(result))
    print_measured(console, result.run, result.measured)
    if result.failures:
        console.print(_failure_table(result.failures))
    print_overview(console, result)


def print_evaluation(console: Console, result: EvaluationResult) -> None:
    """Print accuracy by scenario and k, failures, and where the tables are."""
    print_measured(console, result.run, result.measured)
    if result.failures:
        console.print(_failure_table(result.failures))
    where = short(result.run.layout.evaluations)
    say(console, f"evaluated in {duration(result.elapsed_s)}; tables: {where}")


def print_plan(console: Console, config: SweepConfig, identity: str) -> None:
    """Print what ``run`` would train, and where. identity: of the sweep file (``submission.sweep_id``)."""
    run = locate_run(config)
    resources = find_resources(config.executor, connect=False)
    exists = run.layout.run_file.exists()
    size = read_run(run.layout).cohort_size if exists else cohort_size(run, resources)
    done = verify_masks(run.store).tasks if exists else frozenset()
    weights = sum(layer.num_weights for layer in run.layers)
    table = Table("", Column(overflow="fold"), show_header=False, box=None)
    for key, value in (
        ("run folder", f"{run.layout.root} ({'exists' if exists else 'new'})"),
        ("fingerprint", run.fingerprint),
        ("sweep", identity),
        *(_stream_rows(run) if not config.training.is_given else _task_rows(run, size, done)),
        ("network", f"{config.network.kind}, {weights:,} weights, {config.network.outputs} outputs"),
        ("workers", f"{resources.num_workers} ({config.executor.kind})"),
        ("memory", f"{peak_bytes(run, size) / 1e6:,.0f} MB a worker, besides the data set"),
        ("evaluate", ", ".join(config.evaluation.asked)),
        ("at k =", ", ".join(map(str, config.evaluation.ks(config.benchmark.num_tasks)))),
    ):
        table.add_row(key, value)
    console.print(table)


def _task_rows(run: Run, size: int, done: frozenset[int]) -> list[tuple[str, str]]:
    num_tasks = run.config.benchmark.num_tasks
    jobs = plan_jobs(num_tasks, size, done)
    return [
        ("tasks", f"{num_tasks}: {jobs.num_done} done, {jobs.num_left} to train"),
        ("cohorts to train", f"{len(jobs.jobs)} of up to {size} tasks"),
    ]


def _stream_rows(run: Run) -> list[tuple[str, str]]:
    spec = run.config.run_spec()
    visits, rules = plan_visits(spec), spec.training.stream
    assert rules is not None, "a spec without task identity has a stream"
    again = Counter(visit.kind for visit in visits)
    where = "where decisions fall, which leaks them" if rules.boundaries == "aligned" else "at random places"
    return [
        ("true tasks", f"{run.config.benchmark.num_tasks}, not told to the model"),
        ("visits", f"{len(visits)}: {again['return']} come back, {again['repeat']} twice in a row"),
        ("batches", f"{visits[-1].end:,}, boundaries {where}"),
        ("decisions", f"{num_decisions(spec):,}"),
    ]


def verify_and_print(console: Console, root: Location, *, repair: bool) -> bool:
    """Verify a run, name each problem, put bad files aside if asked; tell whether all is well."""
    run, record = open_run(root)
    if run.config.baseline is not None:
        return _verify_baseline(console, run, record.num_tasks)
    if repair:
        with locked(run.layout):
            findings = verify_masks(run.store)
            moved = quarantine(run.store, findings.problems)
    else:
        findings, moved = verify_masks(run.store), []
    num_expected = num_expected_masks(run, record.num_tasks)
    missing = findings.missing(num_expected)
    for problem in (*findings.problems, *missing):
        say(console, f"{problem.kind}: {problem.message}" if problem.path else problem.message)
    if len(findings.provenances) > 1:
        made = "; ".join(", ".join(words) for words in findings.provenances)
        say(console, f"note: masks of several makes (engine, device, torch): {made}")
    say(console, f"{len(findings.tasks)} of {num_expected} masks are good")
    if not num_expected:
        say(console, "the stream has not ended yet; its masks are stored when it does")
    if repair:
        say(
            console,
            f"moved {len(moved)} bad files to {run.layout.quarantine}" if moved else "nothing to move",
        )
    if missing:
        say(console, f"`supsup run` of its sweep trains the {len(missing)} missing tasks")
    return repair or not (findings.problems or missing or not num_expected)


def _verify_baseline(console: Console, run: Run, num_tasks: int) -> bool:
    """Read the state of a baseline; a run learns again what cannot be read."""
    num_good, num_named = read_baseline(run.layout, run.fingerprint)[0], num_learned(run.layout)
    if num_good < num_named:
        say(console, f"damaged: the state after {num_named} tasks in {run.layout.baseline}")
    say(console, f"{num_good} of {num_tasks} tasks are learned, and their state is good")
    return num_good == num_named == num_tasks


def _task_table(result: SweepResult) -> Table:
    rows = result.facts
    is_given = result.run.config.training.is_given
    title = f"{result.run.name}: {len(rows)} {'tasks' if is_given else 'masks'}"
    if len(rows) > MAX_TASK_ROWS:
        rows = sorted(rows, key=lambda one: one.test_accuracy)[:NUM_WORST]
        title += f", the {NUM_WORST} worst"
    named = ("task", "accuracy (GG)") if is_given else ("mask", "accuracy on its task")
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
    """One row per distinct error, with the tasks it came to."""
    title = "failed; the same command tries again"
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
    """Print a table of what there is now, and the next three commands worth trying."""
    for key, value in _rows(result):  # paths are for copying: never cut
        say(console, f"{key:<{KEY_WIDTH}}{value}")
    say(console, "next:")
    for command, what in next_commands(result.run, result.failures)[:NUM_NEXT]:
        say(console, f"  {command}")
        say(console, f"      {what}")


def _rows(result: SweepResult) -> list[tuple[str, str]]:
    run, facts, num_trained, failures = result.run, result.facts, result.num_trained, result.failures
    what = "tasks" if run.config.training.is_given else "masks"
    now = f"trained {num_trained} {what}" if num_trained else "trained nothing"
    num_there = len(facts) if run.config.baseline is None else num_learned(run.layout)
    done = f"{num_there} {what} are there; {now} in {duration(result.elapsed_s)}"
    rows = [("done", f"{done}, {len(failures)} jobs failed" if failures else done)]
    if facts:
        worst = min(facts, key=lambda one: one.test_accuracy)
        accuracy = percent(mean(one.test_accuracy for one in facts))
        rows += [
            (
                "accuracy",
                f"{accuracy} with the task given; the worst, {worst.task}: {percent(worst.test_accuracy)}",
            ),
            ("density", f"{mean(one.density for one in facts):.3g} of the weights kept"),
            ("stored", _stored(run, facts)),
        ]
    rows.append(("run folder", short(run.layout.root)))
    page = run.layout.report / "report.html"
    if page.exists():
        rows.append(("report", short(page)))
    return rows


def _stored(run: Run, facts: Sequence[MaskInfo]) -> str:
    sizes = [one.num_bytes for one in facts]
    norms = mean(one.num_norm_bytes for one in facts)
    beside = f", and {byte_words(norms)} of running statistics" if run.identity.network.get("norms") else ""
    return f"{byte_words(sum(sizes))} of masks, {byte_words(mean(sizes))} each{beside}"


def next_commands(run: Run, failures: Sequence[Failure]) -> list[tuple[str, str]]:
    """Return commands and what each does, the most useful first."""
    name, config = short(run.layout.root), run.config
    commands = []
    if failures:
        commands.append((f"supsup logs {name}", "why tasks failed; the same run command tries them again"))
    if config.tracking.uri:
        commands.append((f"supsup ui {name}", "browse it: every task, its curves, the figures"))
    if config.baseline is not None:
        return [*commands, (f"supsup report {name}", "its figures")]
    if config.training.is_given and not config.network.masks_outputs:
        if config.evaluation.inferred_scenarios:
            commands += [
                (
                    f"supsup evaluate {name} evaluation.inference.algorithm=exhaustive",
                    "find the task another way, on the same masks",
                ),
                (f"supsup export {name} --mlflow", "a model that takes images and answers over HTTP"),
            ]
        else:
            commands.append((f"supsup evaluate {name}", "find the task of each image, on the same masks"))
    commands += [
        (f"supsup verify {name}", "check every mask"),
        (f"supsup export {name} --out exported", "the masks as safetensors files"),
    ]
    return commands


def result_json(result: SweepResult | EvaluationResult) -> str:
    """Return what a run or an evaluation came to, as indented JSON. Fractions in [0, 1], seconds."""
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
        "measured": result.measured,
        "elapsed_s": round(result.elapsed_s, 3),
    }
    return json.dumps(content, indent=2)
