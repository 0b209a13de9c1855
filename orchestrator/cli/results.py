"""What commands print when they are done: tables and the next thing to do."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from core.errors import first_line
from core.stream.schedule import num_decisions, plan_visits
from orchestrator.cli.overview import print_overview, short
from orchestrator.cluster.resources import find_resources
from orchestrator.config.sweep import SweepConfig
from orchestrator.evaluate import EvaluationResult
from orchestrator.execution.controller import Failure
from orchestrator.execution.plan import plan_jobs
from orchestrator.execution.progress import duration
from orchestrator.report.tables import percent, print_measured, say
from orchestrator.runs.lock import locked
from orchestrator.runs.run import Run, cohort_size, locate_run, open_run, peak_bytes
from orchestrator.stages.stream_log import num_expected_masks
from orchestrator.sweep import SweepResult
from orchestrator.watcher import error_key, task_list
from storage.baseline_state import num_learned, read_baseline
from storage.locations import AnyPath
from storage.run_file import read_run
from storage.verify import quarantine, verify_masks

MAX_TASK_ROWS = 20
NUM_WORST = 5


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
        ("at k =", ", ".join(map(str, config.evaluation.points(config.benchmark.num_tasks)))),
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


def verify_and_print(console: Console, root: AnyPath, *, repair: bool) -> bool:
    """Verify a run, name each problem, put bad files aside if asked; tell whether all is well."""
    run, record = open_run(root)
    if run.config.baseline is not None:
        return _verify_baseline(console, run, record.num_tasks)
    if repair:
        with locked(run.layout):
            verdict = verify_masks(run.store)
            moved = quarantine(run.store, verdict.problems)
    else:
        verdict, moved = verify_masks(run.store), []
    num_expected = num_expected_masks(run, record.num_tasks)
    missing = verdict.missing(num_expected)
    for problem in (*verdict.problems, *missing):
        say(console, f"{problem.kind}: {problem.message}" if problem.path else problem.message)
    if len(verdict.provenances) > 1:
        made = "; ".join(", ".join(words) for words in verdict.provenances)
        say(console, f"note: masks of several makes (engine, device, torch): {made}")
    say(console, f"{len(verdict.tasks)} of {num_expected} masks are good")
    if not num_expected:
        say(console, "the stream has not ended yet; its masks are stored when it does")
    if repair:
        say(
            console,
            f"moved {len(moved)} bad files to {run.layout.quarantine}" if moved else "nothing to move",
        )
    if missing:
        say(console, f"`supsup run` of its sweep trains the {len(missing)} missing tasks")
    return repair or not (verdict.problems or missing or not num_expected)


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
