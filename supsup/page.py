"""A run as HTML for notebooks: a line, its results, and the curve of its report.

A notebook's theme is not that of the browser, so figures lie on white and tables have the colours of the page.
"""

import base64
import html
import re

from orchestrator.report.page import html_table
from orchestrator.report.tables import RESULT_HEADS, result_rows
from orchestrator.runs.results import Results
from storage.layout import RunLayout
from storage.locations import Location

MAX_ROWS = 12
STYLES = re.compile(r"<style.*?</style>", re.DOTALL)
LOOK = "background:#fff;color:#212223;padding:.4rem;border-radius:.3rem;max-width:30rem;width:100%"


def run_page(line: str, results: Results, layout: RunLayout) -> str:
    """Return the HTML. line: text above. The last results are shown, and how many there are."""
    rows = result_rows(results)
    shown = rows[-MAX_ROWS:]
    table = html_table(RESULT_HEADS, shown) if shown else ""
    few = f"<div>the last {MAX_ROWS} of {len(rows):,} results</div>" if len(rows) > len(shown) else ""
    is_curve = len({one.k for one in results}) > 1
    return f"<div><code>{html.escape(line)}</code>{table}{few}{_figure(layout, is_curve=is_curve)}</div>"


def _figure(layout: RunLayout, *, is_curve: bool) -> str:
    """Return the accuracy over k, with a single k that of each task; empty where nothing is drawn."""
    name, words = ("scenarios", "tasks learned") if is_curve else ("accuracy", "task")
    path = layout.report / f"{name}.svg"
    if not path.exists():
        return ""
    content = base64.b64encode(_on_white(path)).decode()
    return f'<img alt="accuracy by {words}" style="{LOOK}" src="data:image/svg+xml;base64,{content}">'


def _on_white(path: Location) -> bytes:
    """Return an SVG without the styles that follow the scheme of the browser."""
    return STYLES.sub("", path.read_text()).replace("currentColor", "#212223").encode()
