"""The rows of a comparison as records, LaTeX, Markdown, CSV and HTML."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa

from orchestrator.compare.groups import Cell, Row
from orchestrator.report.page import html_table

HEADS = ("method", "mean, %", "std", "n", "difference", "95 % interval")
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def record(row: Row, sources: Mapping[str, str]) -> dict[str, Any]:
    """Return a row of the Arrow table. runs: names with the first digits of what they were read from."""
    found, difference = row.values, row.difference
    return {
        **{name: getattr(row.cell, name) for name in ("scenario", "inference", "k", "metric")},
        "group": row.group,
        "mean": found.mean,
        "std": found.std,
        "n": found.n,
        "difference": None if difference is None else difference.mean,
        "low": None if difference is None else difference.low,
        "high": None if difference is None else difference.high,
        "pairs": None if difference is None else difference.n,
        "runs": " ".join(f"{name}:{sources[name][:16]}" for name in row.runs),
    }


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells below ``HEADS``."""
    found, difference = row.values, row.difference
    std = "-" if found.std is None else f"{100 * found.std:.2f}"
    line = (row.group, f"{100 * found.mean:.2f}", std, str(found.n))
    if difference is None:
        return (*line, "-", "-")
    interval = (
        "-"
        if difference.low is None or difference.high is None
        else f"[{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
    )
    return (*line, f"{100 * difference.mean:+.2f}", interval)


def blocks(rows: Sequence[Row]) -> Iterator[tuple[Cell, list[Row]]]:
    """Yield each cell with its rows."""
    for cell, found in groupby(rows, key=lambda row: row.cell):
        yield cell, list(found)


def latex(rows: Sequence[Row], sources: Mapping[str, str]) -> str:
    """Return a ``tabular`` of booktabs; what it was made from is in comments."""
    lines = [
        *(f"% made from {line}" for line in source_lines(sources)),
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{lrrrrr}",
        r"\toprule",
        " & ".join(map(latex_text, HEADS)) + r" \\",
    ]
    for cell, found in blocks(rows):
        lines += [r"\midrule", rf"\multicolumn{{6}}{{l}}{{\emph{{{latex_text(str(cell))}}}}} \\"]
        lines += [" & ".join(map(_latex_cell, cells(row))) + r" \\" for row in found]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cell(text: str) -> str:
    return f"${text}$" if text[0] in "+-[" and len(text) > 1 else latex_text(text)


def latex_text(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    return "".join(SPECIAL.get(char, f"\\{char}" if char in "&%$#_{}" else char) for char in text)


def markdown(rows: Sequence[Row], sources: Mapping[str, str]) -> str:
    """Return a table; what it was made from is in comments."""
    lines = ["| " + " | ".join(["measured", *HEADS]) + " |", "| --- | --- |" + " ---: |" * (len(HEADS) - 1)]
    for row in rows:
        words = [str(row.cell), *cells(row)]
        lines.append("| " + " | ".join(word.replace("|", r"\|") for word in words) + " |")
    comments = [f"<!-- made from {line} -->" for line in source_lines(sources)]
    return "\n".join([*lines, "", *comments, ""])


def csv_text(table: pa.Table) -> str:
    """Return a table with all digits; empty where undefined."""
    text = io.StringIO()
    writer = csv.DictWriter(text, table.column_names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.to_pylist())
    return text.getvalue()


def html(rows: Sequence[Row], left_out: Sequence[str]) -> str:
    """Return the rows as HTML, and what was left out."""
    table = html_table(("measured", *HEADS), [(str(row.cell), *cells(row)) for row in rows])
    return table + (html_table(("left out",), [(line,) for line in left_out]) if left_out else "")


def source_lines(sources: Mapping[str, str]) -> list[str]:
    """Return a line per run: its name, and the sha256 of its summary."""
    return [f"{name}, summary.json sha256 {digest}" for name, digest in sources.items()]
