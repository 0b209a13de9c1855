"""What a search came to: a table of its points, and a figure over the value that varies most."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from orchestrator.config import SweepConfig
from orchestrator.figures import Curve, draw_panels
from orchestrator.measured_tables import say
from orchestrator.search import PointResult, plan_points, search_folder
from storage.places import AnyPath

# What is shown of a run, by the end of its MLflow name: what stands above its column and beside its axis.
SHOWN = {
    "/accuracy": ("", "accuracy, %"),
    "/task_inference_accuracy": ("task right", "task right, %"),
    "/recovered": ("found exactly", "masks found exactly, %"),
    "/num_masks": ("masks", "masks allocated"),
    "/num_missed": ("missed", "tasks missed"),
    "/num_duplicates": ("duplicate", "duplicate masks"),
}


def print_search(console: Console, config: SweepConfig, results: Sequence[PointResult]) -> None:
    """Print one row per point, draw the figure, say where everything is."""
    assert config.search is not None, "a search has a space"
    keys = list(config.search.space)
    shown = {name: _heading(name) for name in _metric_names(results) if _end(name)}
    table = Table(*(key.split(".")[-1] for key in keys), *shown.values(), box=SIMPLE_HEAD, title=config.name)
    for result in results:
        cells = [_cell(name, result.metrics.get(name)) for name in shown]
        if result.error:
            cells = ["failed"] + [""] * (len(shown) - 1)
        table.add_row(*(str(result.point.settings[key]) for key in keys), *cells)
    console.print(table)
    for result in results:
        if result.error:
            say(console, f"{result.point} failed: {result.error}")
    path = draw_search(config, results)
    where = f"table: {search_folder(config) / 'search.json'}" + (f"; figure: {path}" if path else "")
    say(console, f"{len(results)} runs; {where}")


def print_search_plan(console: Console, config: SweepConfig) -> None:
    """Print the points of a search and which of their run folders exist."""
    table = Table("run", "run folder", "", box=SIMPLE_HEAD)
    for point in plan_points(config):
        exists = point.layout.run_file.exists()
        table.add_row(str(point), point.layout.root.name, "exists" if exists else "new")
    console.print(table)


def draw_search(config: SweepConfig, results: Sequence[PointResult]) -> AnyPath | None:
    """Draw each metric over the numeric key with most values; return the figure, None without one.

    Seeds become a band from the lowest to the highest around their mean; other keys are curves.
    """
    assert config.search is not None, "a search has a space"
    numeric = {
        key: values
        for key, values in config.search.space.items()
        if key != "seed" and len(values) > 1 and all(type(value) in (int, float) for value in values)
    }
    if not numeric:
        return None
    axis = max(numeric, key=lambda key: len(numeric[key]))
    panels = {_label(name): _curves(results, axis, name) for name in _metric_names(results) if _end(name)}
    path = search_folder(config) / "search.png"
    draw_panels(path, panels, x_label=axis, title=config.name)
    return path


def _curves(results: Sequence[PointResult], axis: str, metric: str) -> list[Curve]:
    """Return one curve for each combination of the other keys, seeds taken together."""
    groups: dict[str, dict[float, list[float]]] = {}
    for result in results:
        others = {k: v for k, v in result.point.settings.items() if k not in (axis, "seed")}
        name = ", ".join(f"{key.split('.')[-1]} {value}" for key, value in others.items())
        values = groups.setdefault(name, {}).setdefault(float(result.point.settings[axis]), [])
        if metric in result.metrics:
            values.append(_scaled(metric, result.metrics[metric]))
    return [Curve(name=name, values=values) for name, values in groups.items()]


def _metric_names(results: Sequence[PointResult]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.metrics))


def _end(name: str) -> str | None:
    return next((end for end in SHOWN if name.endswith(end)), None)


def _heading(name: str) -> str:
    """Return what stands above a column: GG/accuracy becomes GG."""
    return SHOWN[_end(name) or ""][0] or name.split("/", maxsplit=1)[0]


def _label(name: str) -> str:
    """Return what stands beside an axis: GG/accuracy becomes "GG accuracy, %"."""
    return f"{name.split('/', maxsplit=1)[0]} {SHOWN[_end(name) or ''][1]}"


def _scaled(name: str, value: float) -> float:
    return value if "/num_" in name else 100 * value


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if "/num_" in name else f"{100 * value:.2f} %"
