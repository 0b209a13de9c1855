"""Figures with matplotlib: safe for colour-blind readers, legible when small, written atomically.

A figure is a PNG on white, and a transparent SVG whose lines and text follow the reader's light or
dark colour scheme.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from storage.files import commit_bytes
from storage.locations import Location

# Okabe and Ito's palette, distinguishable with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#212223"  # of lines and text; an SVG uses the reader's colour instead
SEQUENTIAL = "viridis"
PANEL_INCHES = (4.2, 3.2)
MAX_COLUMNS = 3
DPI = 200
MAX_NAMES = 12  # below a categorical axis
FONT_POINTS = 10
LEGEND_POINTS = 8
LETTER_WIDTH = 0.55  # of a letter, in heights
HANDLE_LETTERS = 7  # the width of a line and the gaps of a legend's entry, in letters
INCHES_BESIDE = 0.8  # of a panel, for labels beside the axes
STYLE: Any = {
    "font.size": FONT_POINTS,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlesize": FONT_POINTS,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",  # text stays text: small and searchable
    "svg.hashsalt": "supsup",  # the same figure gives the same bytes
    "axes.formatter.useoffset": False,
}
SVG_SCHEME = (
    "<style>svg{color:#212223}@media(prefers-color-scheme:dark){svg{color:#d8d9da}}"
    "text{fill:currentColor;font-family:system-ui,'DejaVu Sans',sans-serif}</style>"
)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve. values: x -> all y measured there; drawn as their mean, with a band for their range.

    band: what the band is, for the legend; of dots, what the mean and the band around it are.
    """

    name: str
    values: Mapping[float, Sequence[float]]
    band: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel. has_line: whether to draw means and bands, rather than a dot for every y.

    names: tick labels at x = 0, 1, 2, ... of a categorical axis. is_whole: whether x are whole numbers.
    """

    y_label: str
    x_label: str
    curves: Sequence[Curve]
    is_log: bool = False
    has_line: bool = True
    names: tuple[str, ...] = ()
    is_whole: bool = False


def draw_panels(path: Location, panels: Sequence[Panel], *, title: str) -> None:
    """Draw panels side by side, as PNG and SVG."""
    figure = panels_figure(panels)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def panels_figure(panels: Sequence[Panel]) -> Any:
    """Return a figure of panels side by side."""
    figure, axes = new_figure(len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        for i, curve in enumerate(panel.curves):
            (draw_curve if panel.has_line else _draw_dots)(axis, curve, i)
        name_axes(axis, panel.x_label, panel.y_label)
        if panel.is_log:
            make_log(axis)
        elif panel.is_whole:
            whole_numbers(axis)
        if panel.names:
            _name_categories(axis, panel.names)
    _add_legends(axes)
    return figure


def save_print(figure: Any, path: Location, made_from: str) -> tuple[Location, Location]:
    """Commit a figure for print as PDF at ``path`` and as SVG beside it, on white; return both. made_from: noted in them."""
    pdf, svg = io.BytesIO(), io.BytesIO()
    with _style():
        figure.savefig(pdf, format="pdf", metadata={"Subject": made_from, "CreationDate": None})
        figure.savefig(svg, format="svg", metadata={"Description": made_from, "Date": None, "Creator": None})
    beside = path.with_name(f"{path.stem}.svg")
    commit_bytes(path, pdf.getvalue())
    commit_bytes(beside, svg.getvalue())
    return path, beside


def save(figure: Any, path: Location) -> str:
    """Commit a figure as PNG at ``path`` and as SVG beside it; return the SVG's text."""
    png, svg = io.BytesIO(), io.StringIO()
    with _style():
        figure.savefig(png, format="png", dpi=DPI)
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    commit_bytes(path, png.getvalue())
    text = _follow_scheme(svg.getvalue())
    commit_bytes(path.with_name(f"{path.stem}.svg"), text.encode())
    return text


def new_figure(num_panels: int, inches: tuple[float, float] = PANEL_INCHES) -> tuple[Any, Any]:
    """Return a figure with up to three panels in a row, and its axes. inches: the size of a panel."""
    from matplotlib.figure import Figure  # slow to import; avoids pyplot's global state

    width, height = inches
    columns = min(num_panels, MAX_COLUMNS)
    rows = -(-num_panels // columns)
    with _style():
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
    axes = cells[:num_panels]
    for cell in cells[num_panels:]:
        cell.remove()
    for axis in axes:
        axis.grid(visible=True, color=INK, alpha=0.12, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def name_axes(axis: Any, x_label: str, y_label: str, *, legend: bool = False, title: str = "") -> None:
    """Label the axes. legend: whether to show one, above the axes. title: of the legend."""
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    if legend:
        _add_legend(axis, title)


def make_log(axis: Any) -> None:
    """Make the x axis logarithmic, with labels at 1 and 3 of each decade; the default labels overlap."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def whole_numbers(axis: Any) -> None:
    """Restrict the ticks of the x axis to whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))


def _style() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def _follow_scheme(svg: str) -> str:
    """Make lines and text follow the colour scheme of the page."""
    head, open_tag, rest = svg.partition("<svg")
    attributes, end, body = rest.partition(">")
    for colour in (INK, "#000000"):
        body = body.replace(colour, "currentColor")
    return f"{head}{open_tag}{attributes}{end}{SVG_SCHEME}{body}"


def draw_curve(
    axis: Any, curve: Curve, number: int, *, has_marks: bool = True, is_wide: bool = False
) -> None:
    """Draw the means of a curve with a band for the range. is_wide: if other curves may overlap it."""
    points = sorted((x, ys) for x, ys in curve.values.items() if len(ys))
    xs, means = [x for x, _ in points], [sum(ys) / len(ys) for _, ys in points]
    colour = COLOURS[number % len(COLOURS)]
    marker = MARKERS[number % len(MARKERS)]
    look: Any = {"linewidth": 4, "alpha": 0.6} if is_wide else {}
    look |= {"marker": marker} if has_marks else {}
    axis.plot(xs, means, color=colour, markersize=4, label=curve.name or None, **look)
    axis.fill_between(
        xs,
        [min(ys) for _, ys in points],
        [max(ys) for _, ys in points],
        color=colour,
        alpha=0.15,
        linewidth=0,
        label=curve.band or None,
    )


def _draw_dots(axis: Any, curve: Curve, number: int) -> None:
    """Draw a dot for every y and, where ``band`` names it, the mean with one standard deviation."""
    points = [(x, y) for x, ys in curve.values.items() for y in ys]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    axis.plot(xs, ys, color=colour, marker=marker, linestyle="", markersize=4, label=curve.name or None)
    if curve.band and len(ys) > 1:
        middle, spread = mean(ys), stdev(ys)
        axis.axhline(middle, color=colour, linewidth=1)
        axis.axhspan(
            middle - spread, middle + spread, color=colour, alpha=0.15, linewidth=0, label=curve.band
        )


def _name_categories(axis: Any, names: Sequence[str]) -> None:
    """Put a name below each category, or below some of them where they are many, none at the edges."""
    step = -(-len(names) // MAX_NAMES)
    axis.set_xticks(range(0, len(names), step), names[::step])
    axis.set_xlim(-0.5, len(names) - 0.5)


def _add_legends(axes: Sequence[Any]) -> None:
    """Add a legend to each of the axes whose entries no earlier one has."""
    known: list[list[str]] = []
    for axis in axes:
        labels = axis.get_legend_handles_labels()[1]
        if labels not in known:
            _add_legend(axis)
            known.append(labels)


def _add_legend(axis: Any, title: str = "") -> None:
    """Add a legend above the axes, where it covers no data, in as many columns as fit."""
    _, labels = axis.get_legend_handles_labels()
    if labels:
        legend = axis.legend(
            title=title or None,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=_num_columns(axis, labels),
            fontsize=LEGEND_POINTS,
            frameon=False,
            labelcolor=INK,
            borderaxespad=0.2,
        )
        legend.set_alignment("left")


def _num_columns(axis: Any, labels: Sequence[str]) -> int:
    """Return how many columns of a legend fit above the axes."""
    panels = axis.get_subplotspec().get_gridspec().ncols
    inches = axis.get_figure().get_size_inches()[0] / panels - INCHES_BESIDE
    letters = 72 * inches / (LETTER_WIDTH * LEGEND_POINTS)
    widths = [len(label) + HANDLE_LETTERS for label in labels]
    return len(labels) if sum(widths) <= letters else max(1, int(letters / max(widths)))
