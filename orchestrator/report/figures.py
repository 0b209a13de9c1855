"""The figures of a run: each function maps ``ReportData`` to a figure, or None without data."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.data import ReportData
from orchestrator.report.draw import (
    COLOURS,
    MARKERS,
    SEQUENTIAL,
    make_log,
    name_axes,
    new_figure,
    whole_numbers,
)
from orchestrator.report.text import byte_words
from orchestrator.runs.results import Metrics

WIDE = (4.8, 3.0)
SQUARE = (4.4, 3.7)
FEW = 60  # tasks; up to here marks are large enough to count
MAX_NAMED_LAYERS = 6  # beyond, layers are numbered
MAX_TICKS = 6  # of a matrix of many tasks
NUM_NAMED = 3  # worst tasks to label
# Label, colour, line style and width of each scenario; GG is wide, since GNu often overlaps it.
SHOWN = {
    "GG": ("GG: task given", 0, "-", 4),
    "GNs": ("GNs: class right, task inferred", 3, "--", 2),
    "GNu": ("GNu: task and class right", 1, "--", 2),
    "NNs": ("NNs: no task ids at all", 1, "-", 2),
}

Draw = Callable[[ReportData], Any]


def draw_accuracy(data: ReportData) -> Any:
    """Draw the accuracy of each task and its mean; label the worst tasks."""
    if not data.infos:
        return None
    figure, (axis,) = new_figure(1, WIDE)
    task = np.array([one.task for one in data.infos])
    accuracy = np.array([100 * one.test_accuracy for one in data.infos])
    few = len(task) <= FEW
    axis.plot(task, accuracy, "o", markersize=5 if few else 2, color=COLOURS[0], label="a task")
    axis.axhline(accuracy.mean(), color=COLOURS[1], linewidth=1.5, label=f"mean {accuracy.mean():.2f} %")
    for i in np.argsort(accuracy, kind="stable")[:NUM_NAMED] if len(task) > NUM_NAMED else ():
        axis.annotate(str(task[i]), (task[i], accuracy[i]), (4, -9), textcoords="offset points", fontsize=8)
    axis.margins(y=0.2)
    whole_numbers(axis)
    name_axes(axis, "task", "test accuracy, task given, %", legend=True)
    return figure


def draw_scenarios(data: ReportData) -> Any:
    """Draw accuracy in each scenario, and of task inference, against the number of tasks learned."""
    if not data.by_k:
        return None
    figure, (axis,) = new_figure(1, WIDE)
    for (scenario, by_k), marker in zip(data.by_k.items(), MARKERS, strict=False):
        words, colour, line, width = SHOWN[scenario]
        look = {"color": COLOURS[colour], "marker": marker, "linestyle": line, "linewidth": width}
        axis.plot(*_percent(by_k, "accuracy"), markersize=5, label=words, **look)
    found = next((by_k for by_k in data.by_k.values() if _has(by_k, "task_inference_accuracy")), None)
    if found is not None:
        curve = _percent(found, "task_inference_accuracy")
        words = "the right task found"
        axis.plot(*curve, color=COLOURS[2], marker="^", linestyle=":", markersize=5, label=words)
    ks = sorted({k for by_k in data.by_k.values() for k in by_k})
    if ks[-1] > 20 * ks[0]:
        make_log(axis)
    if len(ks) <= 8:
        axis.set_xticks(ks, [f"{k:,}" for k in ks])
        axis.minorticks_off()
    axis.margins(y=0.15)
    name_axes(axis, "tasks learned, k", "right, %", legend=True)
    return figure


def draw_matrix(data: ReportData) -> Any:
    """Draw the accuracy of each task once the first k are learned, a panel for each scenario."""
    if not data.matrices:
        return None
    figure, axes = new_figure(len(data.matrices), SQUARE)
    lowest = min(100 * float(np.nanmin(matrix.values)) for matrix in data.matrices)
    for axis, matrix in zip(axes, data.matrices, strict=True):
        axis.grid(visible=False)
        end = len(matrix.ks) - 0.5
        image = axis.imshow(
            np.ma.masked_invalid(100 * matrix.values), cmap=SEQUENTIAL, aspect="auto", interpolation="nearest",
            vmin=lowest, vmax=100, extent=(-0.5, matrix.ks[-1] - 0.5, end, -0.5),
        )  # fmt: skip
        rows = _spread(len(matrix.ks), 2 * MAX_TICKS)
        axis.set_yticks(rows, [f"{matrix.ks[row]:,}" for row in rows])
        whole_numbers(axis)
        axis.set_title(matrix.scenario)
        name_axes(axis, "task", "tasks learned, k")
    figure.colorbar(image, ax=list(axes), label="accuracy, %", shrink=0.9)
    return figure


def draw_confusion(data: ReportData) -> Any:
    """Draw the confusion matrix of task inference; of many tasks, several share a cell."""
    if data.confusion is None:
        return None
    from matplotlib.colors import LogNorm

    confusion = data.confusion
    figure, (axis,) = new_figure(1, SQUARE)
    axis.grid(visible=False)
    shown = np.ma.masked_equal(confusion.counts, 0)
    end = len(confusion.counts) * confusion.width - 0.5
    norm = LogNorm(vmin=1, vmax=max(10, confusion.counts.max()))
    image = axis.imshow(
        shown, norm=norm, cmap=SEQUENTIAL, extent=(-0.5, end, end, -0.5), interpolation="nearest"
    )
    cell = "inferences" if confusion.width == 1 else f"inferences, {confusion.width} tasks a cell"
    figure.colorbar(image, ax=axis, label=cell, shrink=0.9, format="{x:g}")
    figure.suptitle(f"k = {confusion.k:,}: {100 * confusion.share_right:.2f} % right", fontsize=10)
    whole_numbers(axis)
    name_axes(axis, "task inferred", "true task")
    return figure


def draw_gap(data: ReportData) -> Any:
    """Draw the margin of the true task over the best wrong one, for each k; below 0 a wrong one won."""
    if not data.margins:
        return None
    figure, (axis,) = new_figure(1, WIDE)
    ks = sorted(data.margins)
    cuts = np.array([np.percentile(data.margins[k].values, [1, 25, 50, 75, 99]) for k in ks])
    x = np.arange(len(ks))
    axis.vlines(x, cuts[:, 0], cuts[:, 4], color=COLOURS[5], linewidth=3, label="98 % of inferences")
    axis.vlines(x, cuts[:, 1], cuts[:, 3], color=COLOURS[0], linewidth=9, label="half of them")
    axis.plot(x, cuts[:, 2], "D", color=COLOURS[4], markersize=5, label="median")
    for place, k in zip(x, ks, strict=True):
        wrong = 100 * data.margins[k].share_wrong
        words = "none wrong" if wrong == 0 else f"{wrong:.2g} % wrong"
        axis.annotate(
            words, (place, cuts[place, 4]), (0, 5), textcoords="offset points", ha="center", fontsize=8
        )
    axis.axhline(0, color=COLOURS[1], linewidth=1.5)
    axis.set_xticks(x, [f"{k:,}" for k in ks])
    axis.set_xlim(-0.6, len(ks) - 0.4)
    axis.margins(y=0.2)
    name_axes(
        axis, "tasks learned, k", f"right task ahead of\nbest wrong one ({data.objective})", legend=True
    )
    return figure


def draw_density(data: ReportData) -> Any:
    """Draw the density of each task's mask, by layer."""
    if not len(data.densities):
        return None
    figure, (axis,) = new_figure(1, WIDE)
    num_tasks, num_layers = data.densities.shape
    spread = np.linspace(-0.22, 0.22, num_tasks) if num_tasks > 1 else np.zeros(1)
    for layer in range(num_layers):
        of_layer = data.densities[:, layer]
        axis.plot(
            layer + spread,
            of_layer,
            "o",
            markersize=5 if num_tasks <= FEW else 2,
            color=COLOURS[0],
            alpha=0.8,
            label="a task, first to last" if layer == 0 else None,
        )
        axis.hlines(
            of_layer.mean(),
            layer - 0.35,
            layer + 0.35,
            color=COLOURS[1],
            linewidth=2,
            label="mean" if layer == 0 else None,
        )
    axis.margins(y=0.25)
    if num_layers <= MAX_NAMED_LAYERS:
        axis.set_xticks(range(num_layers), data.layer_names)
    else:
        whole_numbers(axis)
    if data.densities.max() > 20 * data.densities[data.densities > 0].min(initial=1.0):
        axis.set_yscale("log")
    label = "layer" if num_layers <= MAX_NAMED_LAYERS else "layer, from 0 at the input"
    name_axes(axis, label, "density (fraction kept)", legend=True)
    return figure


def draw_overlap(data: ReportData) -> Any:
    """Draw, for each pair of tasks, the intersection over union of their masks."""
    num = len(data.compared)
    if num < 2:
        return None
    figure, (axis,) = new_figure(1, SQUARE)
    axis.grid(visible=False)
    shown = np.ma.masked_where(np.eye(num, dtype=bool), data.overlap)
    image = axis.imshow(shown, cmap=SEQUENTIAL, interpolation="nearest")
    figure.colorbar(image, ax=axis, label="kept by both / kept by either", shrink=0.9)
    _task_ticks(axis, data.compared)
    chance = data.chance_overlap
    off = data.overlap[~np.eye(num, dtype=bool)]
    figure.suptitle(f"mean {off.mean():.3f}; chance alone {chance:.3f}", fontsize=10)
    name_axes(axis, "task", "task")
    return figure


def draw_time_line(data: ReportData) -> Any:
    """Draw when each worker trained; white is a gap, a dashed line a pause that was cut out."""
    line = data.time_line
    if not line.spells:
        return None
    workers = list(dict.fromkeys(spell.worker for spell in line.spells))
    height = max(1.9, min(8.0, 0.9 + 0.32 * len(workers)))
    figure, (axis,) = new_figure(1, (WIDE[0], height))
    unit_s, unit = _time_unit(max(spell.end_s for spell in line.spells))
    for row, worker in enumerate(workers):
        spans = [
            (s.start_s / unit_s, (s.end_s - s.start_s) / unit_s) for s in line.spells if s.worker == worker
        ]
        colours = [COLOURS[0], COLOURS[5]] * (len(spans) // 2 + 1)
        axis.broken_barh(spans, (row - 0.38, 0.76), facecolors=colours[: len(spans)], linewidth=0)
    for at_s, pause_s in line.cuts:
        axis.axvline(at_s / unit_s, color=COLOURS[1], linestyle="--", linewidth=1.2)
        words = f"{pause_s / 60:,.0f} min pause"
        axis.annotate(words, (at_s / unit_s, -0.5), (3, 2), textcoords="offset points", fontsize=8)
    axis.set_yticks(range(len(workers)), [f"{i + 1}" for i in range(len(workers))])
    axis.set_ylim(len(workers) - 0.4, -0.75)
    figure.suptitle(f"workers busy {100 * line.busy:.0f} % of the time", fontsize=10)
    name_axes(axis, f"{unit} of training", "worker")
    return figure


def draw_bytes(data: ReportData) -> Any:
    """Draw the bytes of a mask beside its entropy, the lower bound, and other encodings."""
    if data.sizes is None:
        return None
    from matplotlib.ticker import MaxNLocator

    figure, (axis,) = new_figure(1, WIDE)
    density = float(np.mean([one.density for one in data.infos]))
    encodings = data.sizes.encodings
    shades = [COLOURS[0] if size.is_stored else COLOURS[6] for size in encodings[:-1]] + [COLOURS[1]]
    names, sizes = [size.encoding for size in encodings], [size.num_bytes for size in encodings]
    axis.barh(range(len(encodings)), sizes, color=shades, height=0.7)
    for row, size in enumerate(sizes):
        axis.annotate(
            byte_words(size), (size, row), (4, 0), textcoords="offset points", va="center", fontsize=9
        )
    axis.set_yticks(range(len(encodings)), names)
    if max(sizes) > 50 * min(sizes):  # sparse masks
        axis.set_xscale("log")
        axis.set_xlim(min(sizes) / 4, 20 * max(sizes))
        axis.minorticks_off()
    else:
        axis.set_xlim(0, 1.2 * max(sizes))
        axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.set_major_formatter(lambda size, _: byte_words(size))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    figure.suptitle(f"bytes a task: {data.num_weights:,} weights, density {density:.3f}", fontsize=10)
    return figure


# In the order of the page: file name, heading, caption, function.
FIGURES: tuple[tuple[str, str, str, Draw], ...] = (
    ("accuracy", "Accuracy of each task", "Each dot is one task's own mask on its test set.", draw_accuracy),
    (
        "scenarios",
        "Accuracy as tasks are added",
        "Means over the first k tasks, with the task given (GG) and inferred.",
        draw_scenarios,
    ),
    (
        "matrix",
        "Accuracy of each task as tasks are added",
        "A row for each number of tasks learned, a column for each task; blank where a task is not learned yet.",
        draw_matrix,
    ),
    (
        "confusion",
        "Which task was inferred",
        "Right answers are on the diagonal; the colour shows counts on a logarithmic scale.",
        draw_confusion,
    ),
    (
        "gap",
        "How clearly the right task wins",
        "The best wrong task's value minus the right one's, for each inference: above the line, the right task wins.",
        draw_gap,
    ),
    ("density", "Density by layer", "The fraction of each layer's weights that a mask keeps.", draw_density),
    (
        "overlap",
        "Overlap of masks",
        "The share of weights that two tasks have in common; the diagonal is left out.",
        draw_overlap,
    ),
    (
        "time_line",
        "Who trained when",
        "Each bar is a cohort; between bars a worker was testing, storing, waiting or absent.",
        draw_time_line,
    ),
    (
        "bytes",
        "Bytes of a task",
        "The entropy is the lower bound for codes that treat weights as independent.",
        draw_bytes,
    ),
)


def _percent(by_k: dict[int, Metrics], key: str) -> tuple[list[int], list[float]]:
    shares = [(k, 100 * metrics[key]) for k, metrics in by_k.items() if key in metrics]
    return [k for k, _ in shares], [share for _, share in shares]


def _has(by_k: dict[int, Metrics], key: str) -> bool:
    return any(key in metrics for metrics in by_k.values())


def _task_ticks(axis: Any, tasks: Sequence[int]) -> None:
    if len(tasks) <= 2 * MAX_TICKS:
        names = [str(task) for task in tasks]
        axis.set_xticks(range(len(tasks)), names)
        axis.set_yticks(range(len(tasks)), names)
        return
    ticks = _spread(len(tasks), MAX_TICKS)
    names = [str(tasks[tick]) for tick in ticks]
    axis.set_xticks(ticks, names)
    axis.set_yticks(ticks, names)


def _spread(num: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of the first ``num`` numbers, evenly spread."""
    return np.unique(np.linspace(0, num - 1, min(num, most)).round().astype(int))


def _time_unit(longest_s: float) -> tuple[float, str]:
    if longest_s > 3 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if longest_s > 180 else (1.0, "seconds")
