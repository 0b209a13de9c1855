"""An accuracy matrix as HTML for notebooks, legible on light and on dark pages."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.metrics import ContinualMetrics

MAX_SHOWN = 20  # rows or columns of a table that a person reads
SHADE = "rgba(0,114,178,{:.2f})"  # behind text of the page's colour
STRONGEST = 0.5


def matrix_page(
    line: str, ks: Sequence[int], values: NDArray[np.float64], metrics: ContinualMetrics
) -> str | None:
    """Return a line, a shaded table in percent, and the metrics; None for a matrix that is too large to read."""
    if max(values.shape) > MAX_SHOWN:
        return None
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    head = "".join(f"<th>task {task}</th>" for task in range(values.shape[1]))
    rows = (
        f"<tr><th>k = {k:,}</th>{''.join(_cell(value, low, high) for value in row)}</tr>"
        for k, row in zip(ks, values.tolist(), strict=True)
    )
    return f"<div>{line}<table><tr><th></th>{head}</tr>{''.join(rows)}</table>{_words(metrics)}</div>"


def _cell(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "<td></td>"
    strength = STRONGEST * (value - low) / (high - low) if high > low else 0.0
    return f'<td style="background:{SHADE.format(strength)}">{100 * value:.2f}</td>'


def _words(metrics: ContinualMetrics) -> str:
    """Return the metrics that were measured, in percent or points."""
    shown = {
        "average accuracy": f"{100 * metrics.average_accuracy:.2f} %",
        "backward transfer": f"{100 * metrics.backward_transfer:+.2f}",
        "forgetting": f"{100 * metrics.forgetting:+.2f}",
    }
    return ", ".join(f"{name} {value}" for name, value in shown.items() if "nan" not in value)
