"""``report.html`` and ``points.csv`` in the folder of a search: every point, its settings, its results."""

import csv
import io
from collections.abc import Sequence
from html import escape

from core.errors import plural
from orchestrator.config.load import sweep_yaml
from orchestrator.config.sweep import SweepConfig
from orchestrator.report.page import Shown, html_figure, html_page, html_sweep, html_table
from orchestrator.runs.search_file import search_folder
from orchestrator.search.metrics import cell, heading, metric_names, shown_metrics, value_words
from orchestrator.search.settings import SettingResult, search_config
from storage.files import commit_text
from storage.locations import Location

PAGE, CSV = "report.html", "points.csv"
CAPTIONS = {
    "search": ("Over the main axis", "Each metric over the grid's longest dimension."),
    "dimensions": ("Over each dimension", "The metric that ranks the points, over each key of the space."),
}


def write_page(
    config: SweepConfig,
    results: Sequence[SettingResult],
    figures: Sequence[Location],
    states: Sequence[str],
    findings: Sequence[str],
) -> None:
    """Write both. states: of each result, as text. findings: lines of text below the table."""
    folder = search_folder(config)
    keys = [dimension.key for dimension in search_config(config).dimensions]
    commit_text(folder / CSV, _csv(keys, results))
    shown = shown_metrics(results)
    rows = [
        [
            *(value_words(result.setting.values[key]) for key in keys),
            *(cell(name, result.metrics.get(name)) for name in shown),
            state if result.error is None else f"{state}: {result.error}",
            result.setting.run.name,
        ]
        for result, state in zip(results, states, strict=True)
    ]
    heads = [*keys, *map(heading, shown), "", "run folder"]
    links = [f"../{result.setting.run.name}/report/{PAGE}" if _has_page(result) else "" for result in results]
    lead = f"A search: {plural(len(results), 'point')} over {', '.join(keys)}."
    parts = [
        html_table(heads, rows, links),
        *(f"<p>{escape(line)}</p>" for line in findings),
        _figures(figures),
    ]
    commit_text(folder / PAGE, html_page(folder.name, lead, [*parts, html_sweep(sweep_yaml(config))]))


def _has_page(result: SettingResult) -> bool:
    return (result.setting.layout.report / PAGE).is_file()


def _figures(figures: Sequence[Location]) -> str:
    drawn = []
    for path in figures:
        title, caption = CAPTIONS[path.stem]
        svg = path.with_name(f"{path.stem}.svg").read_text()
        drawn.append(html_figure(Shown(heading=title, caption=caption, svg=svg)))
    return f"<main>{''.join(drawn)}</main>"


def _csv(keys: Sequence[str], results: Sequence[SettingResult]) -> str:
    text, names = io.StringIO(), metric_names(results)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["folder", "state", *keys, *names])
    for result in results:
        values = [result.setting.values[key] for key in keys]
        metrics = [result.metrics.get(name) for name in names]
        writer.writerow([result.setting.run.name, result.state, *values, *metrics])
    return text.getvalue()
