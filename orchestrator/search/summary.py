"""The results of a search: a table of its settings, mean and spread over seeds, and figures."""

import math
from collections.abc import Sequence
from statistics import mean, stdev

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from core.errors import first_line, plural
from orchestrator.config.search import Dimension
from orchestrator.config.store_uri import absolute_uri
from orchestrator.config.sweep import SweepConfig
from orchestrator.execution.progress import Display
from orchestrator.report.draw import Curve, Panel, draw_panels
from orchestrator.report.text import print_plain, sweep_words
from orchestrator.runs.search_file import SEARCH_FILE, search_folder
from orchestrator.search.settings import SettingResult, plan_settings, search_config, settled, values_words
from orchestrator.tracking.messages import TrackedSearch
from orchestrator.tracking.sync import sync_run
from storage.locations import Location

# The metrics shown, by the end of their MLflow name: column heading, axis label.
SHOWN = {
    "/accuracy": ("", "accuracy, %"),
    "/task_inference_accuracy": ("task right", "task right, %"),
    "/recovered": ("found exactly", "masks found exactly, %"),
    "/num_masks": ("masks", "masks allocated"),
    "/num_missed": ("missed", "tasks missed"),
    "/num_duplicates": ("duplicate", "duplicate masks"),
}


def print_search(
    console: Console, config: SweepConfig, results: Sequence[SettingResult]
) -> Sequence[Location]:
    """Print a row per setting, mean and spread over seeds; draw and return the figures."""
    search = search_config(config)
    shown = {name: _heading(name) for name in _metric_names(results) if _end(name)}
    table = Table(
        *(d.name for d in search.dimensions), *shown.values(), "", box=SIMPLE_HEAD, title=config.name
    )
    best = best_setting(config, results)
    for result in results:
        cells = [_cell(name, result.metrics.get(name)) for name in shown]
        values = [_value(result.setting.values[d.key]) for d in search.dimensions]
        table.add_row(*values, *cells, "best" if result is best else _state(result))
    console.print(table)
    for result in results:
        if result.error:
            print_plain(console, f"{result.setting} failed: {result.error}")
    names = _metric_names(results)
    if search.metric is not None and names and search.metric not in names:
        print_plain(console, f"search.metric: found {search.metric!r}, but there is only {', '.join(names)}")
    for line in over_seeds(config, results):
        print_plain(console, line)
    figures = draw_search(config, results)
    where = "; ".join(
        [f"table: {search_folder(config) / 'search.json'}", *(f"figure: {path}" for path in figures)]
    )
    print_plain(console, f"{plural(len(results), 'point')}; {where}")
    return figures


def print_search_plan(console: Console, config: SweepConfig, identity: str) -> None:
    """Print the settings of a search and their state. identity: of the sweep file."""
    settings = plan_settings(config)
    known = settled(config, settings)
    table = Table("run", "run folder", "", box=SIMPLE_HEAD)
    for index, setting in enumerate(settings):
        state = "begun" if setting.layout.run_file.exists() else "new"
        if index in known:
            state = _state(known[index]) or "done"
        table.add_row(str(setting), setting.layout.root.name, state)
    console.print(table)
    print_plain(console, f"sweep: {sweep_words(identity)}")


def metric_name(config: SweepConfig, results: Sequence[SettingResult]) -> str | None:
    """Return the metric that ranks the settings, None if no setting has it."""
    names = _metric_names(results)
    wanted = search_config(config).metric
    if wanted is not None:
        return wanted if wanted in names else None
    return next((name for name in names if name.endswith("/accuracy")), None)


def best_setting(config: SweepConfig, results: Sequence[SettingResult]) -> SettingResult | None:
    """Return the finished setting with the best value, None if there is no choice."""
    name = metric_name(config, results)
    found = [result for result in results if name in result.metrics and result.state == "done"]
    varied = {dimension.key for dimension in search_config(config).dimensions}
    if len(found) < 2 or name is None or varied == {"seed"}:  # no seed is better than another
        return None
    choose = max if search_config(config).mode == "max" else min
    return choose(found, key=lambda result: result.metrics[name])


def _ranked(config: SweepConfig, results: Sequence[SettingResult]) -> list[SettingResult]:
    """Return the results, the best first; those without a value, or all where none is better, as they are."""
    name = metric_name(config, results)
    if best_setting(config, results) is None or name is None:
        return list(results)
    sign = -1 if search_config(config).mode == "max" else 1
    return sorted(results, key=lambda one: sign * one.metrics[name] if name in one.metrics else math.inf)


def over_seeds(config: SweepConfig, results: Sequence[SettingResult]) -> list[str]:
    """Return a line per combination of the other keys, with mean and spread over its seeds."""
    name = metric_name(config, results)
    groups: dict[str, list[float]] = {}
    for result in results:
        if "seed" in result.setting.values and name in result.metrics:
            others = {k: v for k, v in result.setting.values.items() if k != "seed"}
            key = ", ".join(f"{key.split('.')[-1]} {_value(value)}" for key, value in others.items())
            groups.setdefault(key, []).append(_scaled(name or "", result.metrics[name or ""]))
    unit = "" if "/num_" in (name or "") else " %"
    return [
        f"{f'{key}: ' if key else ''}{name} {mean(values):.2f}{unit} over {plural(len(values), 'seed')}, standard deviation "
        f"{stdev(values):.2f}, from {min(values):.2f} to {max(values):.2f}"
        for key, values in groups.items()
        if len(values) > 1
    ]


def draw_search(config: SweepConfig, results: Sequence[SettingResult]) -> list[Location]:
    """Draw the figures that the results allow; return their locations."""
    drawn = []
    axis = _main_axis(search_config(config).dimensions)
    if axis is not None:
        labels = {
            _label(name): _curves(results, axis.key, name) for name in _metric_names(results) if _end(name)
        }
        panels = [
            Panel(y_label=label, x_label=axis.name, curves=curves, is_log=axis.is_log)
            for label, curves in labels.items()
        ]
        path = search_folder(config) / "search.png"
        draw_panels(path, panels, title=config.name)
        drawn.append(path)
    name = metric_name(config, results)
    if name is not None and any(name in result.metrics for result in results):
        path = search_folder(config) / "dimensions.png"
        draw_panels(
            path, [_panel(d, name, results) for d in search_config(config).dimensions], title=config.name
        )
        drawn.append(path)
    return drawn


def _main_axis(dimensions: Sequence[Dimension]) -> Dimension | None:
    """Return the grid's numeric key with the most values, seeds aside.

    Seeds become a band around their mean, other keys curves.
    """
    if any(d.kind != "grid" for d in dimensions):
        return None
    numeric = [d for d in dimensions if d.key != "seed" and len(d.values) > 1 and d.is_numeric]
    return max(numeric, key=lambda d: len(d.values), default=None)


def _panel(dimension: Dimension, metric: str, results: Sequence[SettingResult]) -> Panel:
    """Return all results over one dimension: dots if it was drawn, else the mean with its range."""
    values: dict[float, list[float]] = {}
    names: dict[str, float] = {}
    for result in results:
        if metric in result.metrics:
            found = result.setting.values[dimension.key]
            x = float(found) if dimension.is_numeric else names.setdefault(_value(found), len(names))
            values.setdefault(x, []).append(_scaled(metric, result.metrics[metric]))
    return Panel(
        y_label=_label(metric),
        x_label=dimension.name,
        curves=[Curve(name="", values=values)],
        is_log=dimension.is_log,
        has_line=dimension.is_numeric and dimension.kind == "grid" and dimension.key != "seed",
        names=tuple(names),
    )


def _curves(results: Sequence[SettingResult], axis: str, metric: str) -> list[Curve]:
    """Return a curve per combination of the other keys, seeds taken together."""
    groups: dict[str, dict[float, list[float]]] = {}
    for result in results:
        others = {k: v for k, v in result.setting.values.items() if k not in (axis, "seed")}
        name = values_words(others)
        values = groups.setdefault(name, {}).setdefault(float(result.setting.values[axis]), [])
        if metric in result.metrics:
            values.append(_scaled(metric, result.metrics[metric]))
    return [Curve(name=name, values=values) for name, values in groups.items()]


def _state(result: SettingResult) -> str:
    if result.state == "stopped":
        done, accuracy = result.metrics["num_tasks"], result.metrics["mean_accuracy"]
        return f"ended early: {plural(round(done), 'task')}, {100 * accuracy:.2f} %"
    return "failed" if result.state == "failed" else ""


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metric_names(results: Sequence[SettingResult]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.metrics))


def _end(name: str) -> str | None:
    return next((end for end in SHOWN if name.endswith(end)), None)


def _heading(name: str) -> str:
    """Return a column heading: GG/accuracy becomes GG."""
    return SHOWN[_end(name) or ""][0] or name.split("/", maxsplit=1)[0]


def _label(name: str) -> str:
    """Return an axis label: GG/accuracy becomes "GG accuracy, %"."""
    return f"{name.split('/', maxsplit=1)[0]} {SHOWN[_end(name) or ''][1]}"


def _scaled(name: str, value: float) -> float:
    return value if "/num_" in name else 100 * value


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if "/num_" in name else f"{100 * value:.2f} %"


def track_search(
    config: SweepConfig, results: Sequence[SettingResult], figures: Sequence[Location], display: Display
) -> None:
    """Send the results of a search to MLflow, and points that it lacks; warn of failures there, never raise."""
    if config.tracking.uri is None:
        return
    from orchestrator.tracking.search_run import absent_points, log_search  # imports mlflow

    uri, search = absolute_uri(config.tracking.uri), _tracked_search(config, results, figures)
    try:
        absent = absent_points(uri, search)
        for root in {one.setting.layout.root for one in results if one.setting.run.fingerprint in absent}:
            sync_run(root, uri, display)
        log_search(uri, search)
    except Exception as error:  # whatever MLflow raises must not fail the search
        display.message(
            f"MLflow has not taken the search ({first_line(error)[:160]}); the same command sends it again"
        )


def _tracked_search(
    config: SweepConfig, results: Sequence[SettingResult], figures: Sequence[Location]
) -> TrackedSearch:
    best, folder = best_setting(config, results), search_folder(config)
    lines = [
        f"### {folder.name}",
        f"{plural(len(results), 'point')} over {', '.join(search_config(config).space)}.",
    ]
    tags = {f"space.{key}": str(list(values)) for key, values in search_config(config).space.items()}
    if best is not None:
        lines.append(f"**The best: {best.setting}**, run `{best.setting.run.name}`.")
        tags |= {f"best.{key}": str(value) for key, value in best.setting.values.items()}
    lines.append(f"Everything is in `{folder}`. The points' runs are the children of this one.")
    return TrackedSearch(
        experiment=config.name,
        name=folder.name,
        keys=tuple(dimension.key for dimension in search_config(config).dimensions),
        metric=metric_name(config, results),
        points=tuple(dict.fromkeys(one.setting.run.fingerprint for one in _ranked(config, results))),
        tags=tags,
        metrics={} if best is None else best.metrics,
        artifacts=(folder / SEARCH_FILE, *figures),
        note="\n\n".join(lines),
        status="FAILED" if any(result.error for result in results) else "FINISHED",
    )
