"""The tables of a target, and figures like the paper's drawn from those tables alone."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from core.errors import DamagedFileError
from orchestrator.report.draw import (
    COLOURS,
    INK,
    SEQUENTIAL,
    Curve,
    draw_curve,
    name_axes,
    new_figure,
    save,
    whole_numbers,
)
from orchestrator.reproduce.measure import Measurement, TargetFolders, measurements_table
from orchestrator.runs.made_from import table_sources
from orchestrator.runs.results import test_batches
from orchestrator.runs.run import Run
from storage.files import commit_bytes, parquet_source
from storage.layout import TableKey
from storage.locations import Location, listed
from storage.tables import read_derived, read_evaluation

POINTS, CONFUSION, STEPS = "points", "confusion", "steps"
PANEL = (4.6, 3.4)
MAX_TICKS = 7
SQUARE = (4.6, 4.0)
FOUND = "task_inference_accuracy"
WORDS = {
    "one_shot-G-1": "one-shot G, one image",
    "one_shot-H-1": "one-shot H, one image",
    "one_shot-G-1-drawn": "one-shot G, one image",
    "one_shot-H-1-drawn": "one-shot H, one image",
    "binary-H-128": "binary H, 128 images",
    "hopfield-storkey-disjoint-30": "other images adapt, 30 steps",
    "hopfield-storkey-disjoint-30-projected-3": "our search, three candidates of 30 steps",
    "hopfield-storkey-same-one_pass": "the images that are scored adapt",
    "hopfield-storkey-same-one_pass-shuffled": "the same, shuffled (original)",
}
Row = dict[str, Any]
Tables = Mapping[str, pa.Table]


def draw_target(folder: Location, target: str, tables: Tables) -> list[Location]:
    """Draw all figures that a target's tables have data for, as PNG and SVG; return the PNG files."""
    drawn = []
    for name, draw in _figures(tables):
        path = folder / f"{target}-{name}.png"
        figure = draw(tables)
        if figure is not None:
            save(figure, path)
            drawn.append(path)
    return drawn


def _figures(tables: Tables) -> Iterable[tuple[str, Callable[[Tables], Any]]]:
    if POINTS in tables:
        rows = tables[POINTS].to_pylist()
        many = {row["run"] for row in rows if row["metric"] == FOUND}
        yield ("outputs", draw_runs) if len(many) > 1 else ("accuracy", draw_accuracy)
    if CONFUSION in tables:
        yield "confusion", draw_confusion
    if STEPS in tables:
        yield "recovery", draw_recovery


def draw_accuracy(tables: Tables) -> Any:
    """Draw accuracy, task given and inferred, and that of task inference, against the tasks learned."""
    rows = _few_batches(tables[POINTS].to_pylist())
    curves = list(dict.fromkeys((row["run"], row["scenario"], row["method"]) for row in rows))
    if not any(row["metric"] == FOUND for row in rows) or len({row["k"] for row in rows}) < 2:
        return None
    runs = {run for run, _, _ in curves}
    figure, (left, right) = new_figure(2, PANEL)
    for number, (run, scenario, method) in enumerate(sorted(curves, key=lambda c: (c[1] != "GG", c))):
        name = " ".join(filter(None, (scenario, WORDS.get(method, method) or "task given")))
        name = f"{run}, {name}" if len(runs) > 1 else name
        own = [row for row in rows if (row["run"], row["scenario"], row["method"]) == (run, scenario, method)]
        draw_curve(left, _by_tasks_learned(own, "accuracy", name), number, is_wide=scenario == "GG")
        if scenario != "GG":
            draw_curve(right, _by_tasks_learned(own, FOUND, name), number)
    _by_tasks((left, right), rows)
    name_axes(left, "tasks learned, k", "right, %", legend=True)
    name_axes(right, "tasks learned, k", "the right task found, %")
    return figure


def draw_runs(tables: Tables) -> Any:
    """Draw accuracy without task ids against the tasks learned: a panel per method, a curve per run."""
    rows = [row for row in _few_batches(tables[POINTS].to_pylist()) if row["scenario"] != "GG"]
    methods = sorted({row["method"] for row in rows}, reverse=True)
    runs = list(dict.fromkeys(row["run"] for row in rows))
    figure, axes = new_figure(len(methods), PANEL)
    for axis, method in zip(axes, methods, strict=True):
        for number, run in enumerate(runs):
            own = [row for row in rows if (row["run"], row["method"]) == (run, method)]
            curve = _by_tasks_learned(own, "accuracy", run)
            if curve.values:
                draw_curve(axis, curve, number)
        words = WORDS.get(method, method)
        name_axes(axis, "tasks learned, k", "task and class right (GNu), %", legend=True, title=words)
    _by_tasks(axes, rows)
    low = min(axis.get_ylim()[0] for axis in axes)
    for axis in axes:
        axis.set_ylim(low, 100.5)
    return figure


def draw_confusion(tables: Tables) -> Any:
    """Draw the confusion matrix of task inference, and how far off the wrong answers are."""
    table = tables[CONFUSION]
    true, found = table["task"].to_numpy(), table["inferred_task"].to_numpy()
    counts, k = table["num_inferences"].to_numpy(), table["k"][0].as_py()
    cells = np.zeros((k, k))
    np.add.at(cells, (true, found), counts)
    figure, (left, right) = new_figure(2, SQUARE)
    left.grid(visible=False)
    image = left.imshow(100 * cells / cells.sum(axis=1, keepdims=True), cmap=SEQUENTIAL, vmin=0, vmax=100)
    figure.colorbar(image, ax=left, label="of the task's test batches, %")
    name_axes(left, "task found", "true task")
    away = (found - true + k // 2) % k - k // 2
    shares = [100 * counts[away == d].sum() / counts.sum() for d in range(-3, 4)]
    right.bar(range(-3, 4), shares, color=COLOURS[0])
    for x, share in zip(range(-3, 4), shares, strict=True):
        right.annotate(f"{share:.2f}", (x, share), ha="center", va="bottom", fontsize=8)
    name_axes(right, "task found, in steps from the true one", "of all test batches, %")
    return figure


def draw_recovery(tables: Tables) -> Any:
    """Draw the share of wrong bits, and of masks recovered exactly, at each step."""
    rows = tables[STEPS].to_pylist()
    figure, (left, right) = new_figure(2, PANEL)
    for number, method in enumerate(sorted({row["method"] for row in rows})):
        own = [row for row in rows if row["method"] == method]
        for axis, key in ((left, "share_wrong"), (right, "share_exact")):
            draw_curve(axis, _curve(own, "step", key, WORDS.get(method, method)), number, has_marks=False)
    name_axes(left, "gradient step", "bits that are wrong, %", legend=True)
    name_axes(right, "gradient step", "masks found exactly, %")
    return figure


def _by_tasks_learned(rows: Sequence[Row], metric: str, name: str) -> Curve:
    """Return a metric by the number of tasks learned, in percent."""
    return _curve([row for row in rows if row["metric"] == metric], "k", "value", name)


def _curve(rows: Sequence[Row], x: str, y: str, name: str) -> Curve:
    """Return the share ``y`` by ``x``, in percent."""
    return Curve(
        name=name, values={at: [100 * v for v in values] for at, values in _grouped(rows, x, y).items()}
    )


def _grouped(rows: Sequence[Row], x: str, y: str) -> dict[int, list[float]]:
    """Return the values ``y`` of the rows at each ``x``."""
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(row[x], []).append(row[y])
    return found


def _by_tasks(axes: Sequence[Any], rows: Sequence[Row]) -> None:
    """Set ticks at k and an axis of percentages from 90, or below the lowest value, to 100."""
    ks = sorted({row["k"] for row in rows})
    for axis in axes:
        low = min((min(line.get_ydata()) for line in axis.get_lines()), default=90.0)
        axis.set_ylim(min(90.0, 5 * np.floor(low / 5)), 100.5)
        axis.axhline(100, color=INK, alpha=0.2, linewidth=0.8)
        if len(ks) <= MAX_TICKS:
            axis.set_xticks(ks, [f"{k:,}" for k in ks])
        else:
            whole_numbers(axis)


def _few_batches(rows: Sequence[Row]) -> list[Row]:
    """Return the rows on the test batches that task inference used, so that curves are comparable."""
    inferred = {str(row["batches"]) for row in rows if row["metric"] == FOUND}
    return [row for row in rows if str(row["batches"]) in (inferred or {"all"})]


def values_by_k(table: pa.Table, scenario: str, method: str, metric: str) -> dict[int, float]:
    """Return k -> the mean of a metric over seeds, on the test batches that task inference used."""
    rows = [
        row
        for row in _few_batches(table.to_pylist())
        if (row["scenario"], row["method"] or "", row["metric"]) == (scenario, method, metric)
    ]
    return {k: float(np.mean(values)) for k, values in sorted(_grouped(rows, "k", "value").items())}


def target_tables(folders: TargetFolders, measurements: Sequence[Measurement]) -> dict[str, pa.Table]:
    """Return the tables by name: points, confusion at the largest k, and steps of recovery."""
    tables = {POINTS: measurements_table(measurements)} if measurements else {}
    found = [(seed, run) for _, seed, run in folders if run.layout.run_file.exists()]
    for name, rows in ((CONFUSION, _confusions(found)), (STEPS, _steps(found))):
        if rows:
            tables[name] = pa.concat_tables(rows)
    return tables


def write_tables(folder: Location, target: str, tables: Tables) -> None:
    """Commit each table as ``<target>-<name>.csv``."""
    for name, table in tables.items():
        text = io.BytesIO()
        pa_csv.write_csv(table, text)
        commit_bytes(folder / f"{target}-{name}.csv", text.getvalue())


def read_tables(folder: Location, target: str) -> dict[str, pa.Table]:
    """Return the tables of a target that ``write_tables`` wrote."""
    return {
        path.stem.removeprefix(f"{target}-"): pa_csv.read_csv(parquet_source(path))
        for path in listed(folder, f"{target}-*.csv")
    }


def _confusions(runs: Sequence[tuple[int, Run]]) -> list[pa.Table]:
    """Return the confusions at the last k, of runs with few enough tasks to draw."""
    found = []
    for seed, run in runs:
        evaluation = run.config.evaluation
        if run.config.benchmark.kind != "rotated":
            continue
        k = evaluation.ks(run.config.benchmark.num_tasks)[-1]
        path = run.layout.confusion(TableKey(evaluation.method.label, k, test_batches(run)))
        with suppress(DamagedFileError):
            found.append(_with(read_derived(path, table_sources(run).masks(k)), seed=seed, k=k))
    return found


def _steps(runs: Sequence[tuple[int, Run]]) -> list[pa.Table]:
    """Return the shares of wrong bits and of exact masks at each step of recovery, by seed and method."""
    found = []
    for seed, run in runs:
        bits, sources = sum(shape[0] for shape in run.identity.shapes), table_sources(run)
        for path in listed(run.layout.evaluations, "recovery-*.parquet"):
            key = TableKey.parse(path.stem.removeprefix("recovery-"))
            try:
                table = read_evaluation(path, run.fingerprint, sources.masks(key.k if key else 0))
            except DamagedFileError:
                continue
            if table["hamming"].null_count:  # the masks were deleted
                continue
            found.append(_with(_mean_steps(table, bits), seed=seed, method=_method(path)))
    return found


def _mean_steps(table: pa.Table, bits: int) -> pa.Table:
    """Return the mean over tasks at each step; a task with fewer steps keeps its last value."""
    tasks = table.sort_by([("task", "ascending"), ("step", "ascending")]).group_by("task", use_threads=False)
    wrong = [np.array(row) for row in tasks.aggregate([("hamming", "list")])["hamming_list"].to_pylist()]
    most = max(len(row) for row in wrong)
    wrong_TS = np.stack([np.pad(row, (0, most - len(row)), mode="edge") for row in wrong])
    return pa.table(
        {
            "step": range(most),
            "share_wrong": (wrong_TS / bits).mean(axis=0),
            "share_exact": (wrong_TS == 0).mean(axis=0),
        }
    )


def _method(path: Location) -> str:
    """Return the method of recovery from a table's file name."""
    key = TableKey.parse(path.stem.removeprefix("recovery-"))
    return "" if key is None else key.label


def _with(table: pa.Table, **constants: int | str) -> pa.Table:
    """Return ``table`` with a column for each constant."""
    for name, value in constants.items():
        table = table.append_column(name, pa.array([value] * len(table)))
    return table
