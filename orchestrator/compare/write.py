"""The files of a comparison: tables, and a figure of accuracy over k; each names what it was made from."""

from orchestrator.compare.comparison import Comparison
from orchestrator.compare.texts import source_lines
from orchestrator.report.draw import Curve, Panel, panels_figure, save_print
from storage.files import commit_text
from storage.locations import Location


def write_comparison(comparison: Comparison, folder: Location) -> list[Location]:
    """Write ``compare.tex``, ``.csv`` and ``.md``, ``accuracy.pdf`` and ``.svg``; return them."""
    tables = {"tex": comparison.latex(), "csv": comparison.csv(), "md": comparison.markdown()}
    files = []
    for suffix, text in tables.items():
        files.append(folder / f"compare.{suffix}")
        commit_text(files[-1], text)
    figure = panels_figure(accuracy_panels(comparison))
    words = "made from " + "; ".join(source_lines(comparison.sources))
    return [*files, *save_print(figure, folder / "accuracy.pdf", words)]


def accuracy_panels(comparison: Comparison) -> list[Panel]:
    """Return a panel per scenario and method of inference: accuracy over k, a curve per group."""
    panels: dict[tuple[str, str], dict[str, dict[float, list[float]]]] = {}
    for row in comparison.rows:
        cell = row.cell
        if cell.metric == "accuracy":
            runs = comparison.groups[row.group].values()
            ys = [100 * run.values[cell] for run in runs if cell in run.values]
            curves = panels.setdefault((cell.scenario, cell.inference), {})
            curves.setdefault(row.group, {})[float(cell.k)] = ys
    return [_panel(scenario, curves, comparison.over) for (scenario, _), curves in panels.items()]


def _panel(scenario: str, curves: dict[str, dict[float, list[float]]], over: str) -> Panel:
    n = max(len(ys) for values in curves.values() for ys in values.values())
    band = f"band: lowest to highest over {over}, n = {n}" if n > 1 else ""
    shown = [
        Curve(name=name, values=values, band="" if number else band)
        for number, (name, values) in enumerate(curves.items())
    ]
    return Panel(y_label=f"{scenario} accuracy, %", x_label="tasks learned, k", curves=shown, is_whole=True)
