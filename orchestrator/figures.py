"""Figures with matplotlib: colour-blind safe, readable when small, written whole or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.files import commit
from storage.places import AnyPath

# Okabe and Ito's palette, which people with any colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANEL_INCHES = (4.2, 3.2)
MAX_COLUMNS = 3
DPI = 150


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve. values: x -> all y measured there; their mean is drawn, a band shows their range."""

    name: str
    values: Mapping[float, Sequence[float]]


def draw_panels(path: AnyPath, panels: Mapping[str, Sequence[Curve]], *, x_label: str, title: str) -> None:
    """Draw one panel beside the other, as PNG. panels: y label -> curves."""
    figure, axes = new_figure(len(panels))
    for axis, (label, curves) in zip(axes, panels.items(), strict=True):
        for i, curve in enumerate(curves):
            _draw_curve(axis, curve, i)
        axis.set_xlabel(x_label.rsplit(".", maxsplit=1)[-1])
        axis.set_ylabel(label)
    _legend(axes[0], [curve.name for curves in panels.values() for curve in curves])
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def save(figure: Any, path: AnyPath) -> None:
    """Commit a figure as PNG."""
    commit(path, lambda temporary: figure.savefig(temporary, format="png", dpi=DPI))


def new_figure(num_panels: int) -> tuple[Any, Any]:
    """Return a figure with panels side by side, three in a row, and their axes."""
    from matplotlib.figure import Figure  # half a second to import; and without pyplot's global state

    width, height = PANEL_INCHES
    columns = min(num_panels, MAX_COLUMNS)
    rows = -(-num_panels // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    axes = places[:num_panels]
    for place in places[num_panels:]:
        place.remove()
    for axis in axes:
        axis.grid(visible=True, color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_curve(axis: Any, curve: Curve, number: int) -> None:
    points = sorted((x, ys) for x, ys in curve.values.items() if len(ys))
    xs, means = [x for x, _ in points], [sum(ys) / len(ys) for _, ys in points]
    colour = COLOURS[number % len(COLOURS)]
    marker = MARKERS[number % len(MARKERS)]
    axis.plot(xs, means, color=colour, marker=marker, markersize=4, label=curve.name or None)
    axis.fill_between(
        xs,
        [min(ys) for _, ys in points],
        [max(ys) for _, ys in points],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )


def _legend(axis: Any, names: Sequence[str]) -> None:
    if any(names):
        axis.legend(fontsize=8, frameon=False)
