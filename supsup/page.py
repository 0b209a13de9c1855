"""A run as HTML for notebooks: a line, its results, and the curve of its report."""

import base64
import html

import pyarrow as pa

from storage.layout import RunLayout

MAX_ROWS = 12


def run_page(line: str, accuracy: pa.Table, layout: RunLayout) -> str:
    """Return the HTML. accuracy: see ``supsup.opened.Run``; its last rows are shown."""
    shown = accuracy.slice(max(len(accuracy) - MAX_ROWS, 0)).to_pylist()
    head = "".join(f"<th>{html.escape(name)}</th>" for name in accuracy.column_names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>" for row in shown
    )
    table = f"<table><tr>{head}</tr>{rows}</table>" if shown else ""
    return f"<div><code>{html.escape(line)}</code>{table}{_curve(layout)}</div>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else html.escape(str(value))


def _curve(layout: RunLayout) -> str:
    figure = layout.report / "accuracy.png"
    if not figure.exists():
        return ""
    content = base64.b64encode(figure.read_bytes()).decode()
    return f'<img alt="accuracy against the number of tasks" style="max-width:640px" src="data:image/png;base64,{content}">'
