"""Result tables for the terminal: one for task inference, one for recovered masks."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from core.errors import plural
from orchestrator.report.findings import inference_warnings, num_candidates
from orchestrator.report.mask_sizes import HEADS, PAPER_CAVEAT, PAPER_HEADS, PAPER_ROWS, MaskSizes
from orchestrator.report.text import percent, print_plain
from orchestrator.runs.accuracy_matrix import AccuracyMatrix
from orchestrator.runs.results import GIVEN, Metrics, Result, Results
from orchestrator.stages.gaps import Gap

NUM_BEST = 5
TOP_5 = f"top_{NUM_BEST}_task_inference_accuracy"
METRIC_HEADS = ("scenario", "inference", "k", "ACC", "BWT", "forgetting", "learned", "tasks")
RESULT_HEADS = ("scenario", "inference", "k", "accuracy", "task right")


def print_results(console: Console, results: Results, gaps: Sequence[Gap]) -> None:
    """Print accuracy by scenario, method and k, marking earlier measurements; then what is missing."""
    best = ("in best 5",) if any(map(_has_best, results)) else ()
    inferred = Table("scenario", "inference", "k", "accuracy", "task right", *best, box=SIMPLE_HEAD)
    recovery = Column("recovery", no_wrap=True)
    recovered = Table(
        "scenario", recovery, "k", "accuracy", "true mask", "found exactly", "steps", box=SIMPLE_HEAD
    )
    is_mixed = any(one.is_stored for one in results if one.scenario != GIVEN)
    if is_mixed:
        inferred.add_column("measured")
        recovered.add_column("measured")
    for one in results.ascending():
        stored = ["before" if one.is_stored else "now"] if is_mixed else []
        if one.scenario == GIVEN:
            accuracy = percent(one.metrics["accuracy"])
            mark = " (measured before)" if one.is_stored else ""
            print_plain(
                console, f"{one.key} accuracy over the first {plural(one.k, 'task')}: {accuracy}{mark}"
            )
            continue
        _print_notes(console, one)
        if "psi_bytes" in one.metrics:
            label = one.method.removeprefix("hopfield-")
            recovered.add_row(one.key, label, str(one.k), *_recovery_cells(one.metrics), *stored)
        else:
            cells = _inference_cells(one)[: 2 + len(best)]
            inferred.add_row(one.key, one.method, str(one.k), *cells, *stored)
    for table in (inferred, recovered):
        if table.row_count:
            console.print(table)
    for words in inference_warnings(results):
        print_plain(console, f"warning: {words}")
    _print_gaps(console, gaps)


def result_rows(results: Results) -> list[tuple[str, str, str, str, str]]:
    """Return the rows below ``RESULT_HEADS``, k ascending."""
    rows = []
    for one in results.ascending():
        right = one.metrics.get("task_inference_accuracy")
        found = "" if right is None else percent(right)
        label = one.method or "task given"
        rows.append((one.key, label, f"{one.k:,}", percent(one.metrics["accuracy"]), found))
    return rows


def metric_rows(matrices: Sequence[AccuracyMatrix]) -> list[tuple[str, ...]]:
    """Return the rows below ``METRIC_HEADS``: the metrics of continual learning by scenario, after the last task.

    In points and percent: average accuracy, backward transfer, forgetting, accuracy when learned; tasks compared.
    """
    return [
        (
            one.scenario,
            one.method or "task given",
            f"{one.ks[-1]:,}",
            percent(one.metrics.average_accuracy),
            *(f"{100 * value:+.2f}" for value in (one.metrics.backward_transfer, one.metrics.forgetting)),
            percent(one.metrics.learning_accuracy),
            f"{one.metrics.num_compared:,}",
        )
        for one in matrices
    ]


def print_metrics(console: Console, rows: Sequence[Sequence[str]]) -> None:
    """Print the table of ``metric_rows``, nothing without rows."""
    if rows:
        table = Table(*METRIC_HEADS, box=SIMPLE_HEAD, title="Metrics")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def print_sizes(console: Console, sizes: MaskSizes, *, is_of_paper: bool) -> None:
    """Print the bytes per task in each encoding; for a run of the paper's, its table with the caveats."""
    paper = [(PAPER_HEADS, PAPER_ROWS)] if is_of_paper else []
    for heads, rows in ((HEADS, sizes.rows()), *paper):
        table = Table(heads[0], *(Column(head, justify="right") for head in heads[1:]), box=SIMPLE_HEAD)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if is_of_paper:
        console.print(PAPER_CAVEAT, highlight=False)
    if sizes.num_norm_bytes:
        print_plain(console, f"running statistics: {sizes.num_norm_bytes:,.0f} bytes with each mask")


def _has_best(result: Result) -> bool:
    """Return whether the share of right tasks in the best five is informative: among five tasks it is 1."""
    return num_candidates(result) > NUM_BEST and TOP_5 in result.metrics


def _inference_cells(result: Result) -> list[str]:
    """Return the cells of a row, with "-" for the best five if there are at most five tasks."""
    right = [percent(result.metrics[key]) for key in ("accuracy", "task_inference_accuracy")]
    return [*right, percent(result.metrics[TOP_5]) if _has_best(result) else "-"]


def _recovery_cells(metrics: Metrics) -> list[str]:
    """Return the cells of a row, with "-" for metrics that need deleted masks."""
    shares = [percent(metrics[key]) if key in metrics else "-" for key in ("given_accuracy", "recovered")]
    steps = (
        f"{metrics['mean_steps']:.0f}, at most {metrics['most_steps']:.0f}"
        if "mean_steps" in metrics
        else "-"
    )
    return [percent(metrics["accuracy"]), *shares, steps]


def _print_notes(console: Console, result: Result) -> None:
    metrics = result.metrics
    if "shortlist_agreement" in metrics:
        agreement = percent(metrics["shortlist_agreement"])
        print_plain(
            console,
            f"{result.method} at k = {result.k}: agrees with the exact answer in {agreement} of the sampled inferences",
        )
    if "num_masks" in metrics:
        print_plain(console, allocation_words(metrics))
    if "break_even_tasks" in metrics:
        print_plain(
            console,
            f"Psi takes {metrics['psi_bytes'] / 1e6:.1f} MB for any k; plain masks take "
            f"{metrics['mask_bytes']:.0f} bytes each, so Psi is smaller from "
            f"{metrics['break_even_tasks']:,.0f} tasks on",
        )


def allocation_words(metrics: Metrics) -> str:
    """Describe the allocation of masks, from the counts of ``AllocationScore``."""
    count = {key: int(value) for key, value in metrics.items() if key.startswith("num_")}
    words = (
        f"stream: {plural(count['num_masks'], 'mask')} allocated; {plural(count['num_missed'], 'task')} missed, "
        f"{plural(count['num_duplicates'], 'duplicate mask')}, {plural(count['num_merged'], 'mask')} shared by tasks"
    )
    past = count["num_reused"], count["num_skipped"]
    if any(past):
        words += (
            f"; past the budget {plural(past[0], 'decision')} reused a mask and {past[1]:,} skipped the batch"
        )
    return words


def _print_gaps(console: Console, gaps: Sequence[Gap]) -> None:
    """Print a line for each scenario and reason."""
    ks: dict[tuple[str, str], list[str]] = {}
    for gap in gaps:
        ks.setdefault((gap.scenario, gap.why), []).append(str(gap.k))
    for (scenario, why), found in ks.items():
        print_plain(console, f"{scenario} not evaluated at k = {', '.join(found)}: {why}")
