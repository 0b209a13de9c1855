"""The figures of a search: each metric over the main axis, and the ranking metric over every dimension."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from core.errors import plural
from orchestrator.config.search import Dimension, values_words
from orchestrator.config.sweep import SweepConfig
from orchestrator.report.draw import COLOURS, Curve, Panel, draw_panels
from orchestrator.runs.search_file import search_folder
from orchestrator.search.metrics import label, metric_name, scaled, shown_metrics, value_words
from orchestrator.search.settings import SettingResult, search_config
from storage.locations import Location

SEED = "seed"


def draw_search(config: SweepConfig, results: Sequence[SettingResult]) -> list[Location]:
    """Draw the figures that the results allow; return their locations."""
    drawn = []
    search, folder = search_config(config), search_folder(config)
    title = f"{config.name}: {plural(len(results), 'point')}"
    axis = _main_axis(search.dimensions)
    names = shown_metrics(results)
    if axis is not None and names:
        draw_panels(folder / "search.png", [_main_panel(axis, name, results) for name in names], title=title)
        drawn.append(folder / "search.png")
    name = metric_name(config, results)
    if name is not None and any(name in result.metrics for result in results):
        path = folder / "dimensions.png"
        draw_panels(path, [_panel(d, name, results) for d in search.dimensions], title=title)
        drawn.append(path)
    return drawn


def _main_axis(dimensions: Sequence[Dimension]) -> Dimension | None:
    """Return the grid's numeric key with the most values, seeds aside.

    Seeds become a band around their mean, other keys curves.
    """
    if any(d.kind != "grid" for d in dimensions):
        return None
    numeric = [d for d in dimensions if d.key != SEED and len(d.values) > 1 and d.is_numeric]
    return max(numeric, key=lambda d: len(d.values), default=None)


def _main_panel(axis: Dimension, metric: str, results: Sequence[SettingResult]) -> Panel:
    """Return a metric over the main axis: a curve per combination of the other keys, seeds together."""
    groups: dict[str, dict[float, list[float]]] = {}
    for result in results:
        values = groups.setdefault(_others(result, axis.key, SEED), {})
        ys = values.setdefault(float(result.setting.values[axis.key]), [])
        if metric in result.metrics:
            ys.append(scaled(metric, result.metrics[metric]))
    curves = [Curve(name=name, values=values) for name, values in groups.items()]
    return Panel(
        y_label=label(metric),
        x_label=axis.name,
        curves=_with_band(curves, "seed"),
        is_log=axis.is_log,
        is_whole=_is_whole(axis),
    )


def _panel(dimension: Dimension, metric: str, results: Sequence[SettingResult]) -> Panel:
    """Return all results over one dimension, seeds as categories: no seed is more than another."""
    found = [result for result in results if metric in result.metrics]
    if dimension.key == SEED or not dimension.is_numeric:
        return _category_panel(dimension, metric, found)
    values: dict[float, list[float]] = {}
    for result in found:
        x = float(result.setting.values[dimension.key])
        values.setdefault(x, []).append(scaled(metric, result.metrics[metric]))
    others = {key for result in found for key in result.setting.values} - {dimension.key}
    noun = SEED if others == {SEED} else "point"
    curve, is_grid = Curve(name="", values=values), dimension.kind == "grid"
    return Panel(
        y_label=label(metric),
        x_label=dimension.name,
        curves=_with_band([curve], noun) if is_grid else [curve],
        is_log=dimension.is_log,
        has_line=is_grid,
        is_whole=_is_whole(dimension),
    )


def _category_panel(dimension: Dimension, metric: str, found: Sequence[SettingResult]) -> Panel:
    """Return dots over the values of a dimension; over seeds, a colour per combination of the other keys."""
    names = {value_words(value): x for x, value in enumerate(dimension.values)}
    groups: dict[str, dict[float, list[float]]] = {}
    for result in found:
        group = groups.setdefault(_others(result, dimension.key) if dimension.key == SEED else "", {})
        x = names[value_words(result.setting.values[dimension.key])]
        group.setdefault(x, []).append(scaled(metric, result.metrics[metric]))
    if len(groups) > len(COLOURS):
        groups = {"": _merged(groups.values())}
    curves = [Curve(name=name, values=values) for name, values in groups.items()]
    if dimension.key == SEED and len(curves) == 1 and len(found) > 1:
        words = f"mean of n = {plural(len(found), 'seed')} ± 1 standard deviation"
        curves = [replace(curves[0], band=words)] if len(found) == len(curves[0].values) else curves
    return Panel(
        y_label=label(metric), x_label=dimension.name, curves=curves, has_line=False, names=tuple(names)
    )


def _with_band(curves: Sequence[Curve], noun: str) -> list[Curve]:
    """Return the curves, the first of them with what line and band stand for. noun: what there are n of."""
    counts = sorted({len(ys) for curve in curves for ys in curve.values.values() if ys})
    if not counts or counts[-1] < 2:
        return [*curves]
    few = "" if counts[0] == counts[-1] else f"{counts[0]} to "
    n = f"n = {few}{plural(counts[-1], noun)}"
    first, *rest = curves
    return [replace(first, name=first.name or "mean", band=f"band: lowest to highest of {n}"), *rest]


def _merged(groups: Iterable[dict[float, list[float]]]) -> dict[float, list[float]]:
    whole: dict[float, list[float]] = {}
    for group in groups:
        for x, ys in group.items():
            whole.setdefault(x, []).extend(ys)
    return whole


def _others(result: SettingResult, *but: str) -> str:
    """Return the values of the keys other than ``but``, as text."""
    return values_words({key: value for key, value in result.setting.values.items() if key not in but})


def _is_whole(dimension: Dimension) -> bool:
    return all(type(value) is int for value in dimension.values)
