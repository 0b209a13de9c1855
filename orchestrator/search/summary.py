"""The results of a search: a table of its settings, mean and spread over seeds, and figures."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from statistics import mean, stdev

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from core.errors import first_line, plural
from orchestrator.cluster.resources import find_resources
from orchestrator.config.store_uri import absolute_uri
from orchestrator.config.sweep import SweepConfig
from orchestrator.execution.progress import Display
from orchestrator.report.estimate import Work, estimate_rows
from orchestrator.report.text import print_plain, short, sweep_words
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.estimate import estimate_run, read_earlier
from orchestrator.runs.search_file import SEARCH_FILE, search_folder
from orchestrator.runs.sizing import cohort_size
from orchestrator.search.figures import draw_search
from orchestrator.search.metrics import (
    cell,
    heading,
    metric_name,
    metric_names,
    scaled,
    shown_metrics,
    value_words,
)
from orchestrator.search.page import PAGE, write_page
from orchestrator.search.settings import Setting, SettingResult, plan_settings, search_config, settled
from orchestrator.stages import training_stage
from orchestrator.tracking.messages import TrackedSearch
from orchestrator.tracking.registry import check_trackers
from orchestrator.tracking.sync import sync_run
from storage.locations import Location


def print_search(
    console: Console, config: SweepConfig, results: Sequence[SettingResult]
) -> Sequence[Location]:
    """Print a row per setting, mean and spread over seeds; draw and return the figures."""
    search = search_config(config)
    shown = {name: heading(name) for name in shown_metrics(results)}
    table = Table(
        *(d.name for d in search.dimensions), *shown.values(), "", box=SIMPLE_HEAD, title=config.name
    )
    best = best_setting(config, results)
    for result in results:
        cells = [cell(name, result.metrics.get(name)) for name in shown]
        values = [value_words(result.setting.values[d.key]) for d in search.dimensions]
        table.add_row(*values, *cells, "best" if result is best else state_words(result))
    console.print(table)
    for result in results:
        if result.error:
            print_plain(console, f"{result.setting} failed: {result.error}")
    names = metric_names(results)
    if search.metric is not None and names and search.metric not in names:
        print_plain(console, f"search.metric: found {search.metric!r}, expected one of {', '.join(names)}")
    for line in over_seeds(config, results):
        print_plain(console, line)
    figures = report_search(config, results)
    folder = search_folder(config)
    where = {
        "table": folder / SEARCH_FILE,
        "page": folder / PAGE,
        "next": supsup_command("status", short(folder)),
    }
    print_plain(console, plural(len(results), "point"))
    for key, value in where.items():
        print_plain(console, f"  {key:<7}{value}")
    return figures


def report_search(config: SweepConfig, results: Sequence[SettingResult]) -> list[Location]:
    """Write the figures, the table and the page of a search; return the figures."""
    figures = draw_search(config, results)
    best = best_setting(config, results)
    states = ["best" if result is best else state_words(result) or "done" for result in results]
    write_page(config, results, figures, states, over_seeds(config, results))
    return figures


def print_search_plan(console: Console, config: SweepConfig, identity: str | None) -> None:
    """Print the settings of a search and their state. identity: of the sweep file, None without one."""
    settings = plan_settings(config)
    check_trackers(settings[0].run)
    known = settled(config, settings)
    table = Table("run", "run folder", "", box=SIMPLE_HEAD)
    for index, setting in enumerate(settings):
        state = "begun" if setting.layout.run_file.exists() else "new"
        if index in known:
            state = state_words(known[index]) or "done"
        table.add_row(str(setting), setting.layout.root.name, state)
    console.print(table)
    for key, value in _estimate_rows(config, settings, known):
        print_plain(console, f"{key}: {value}")
    if identity is not None:
        print_plain(console, f"sweep: {sweep_words(identity)}")


def _estimate_rows(
    config: SweepConfig, settings: Sequence[Setting], known: Collection[int]
) -> list[tuple[str, str]]:
    """Return the rows on time and bytes of the points that are left, those that share masks once."""
    stages = [training_stage(setting.config) for setting in settings]
    if not all(
        stage.has_masks and setting.config.training.is_given
        for stage, setting in zip(stages, settings, strict=True)
    ):
        return [("time, bytes", "not estimated for streams and baselines")]
    resources, earlier = find_resources(config.executor, connect=False), read_earlier(config)
    left: dict[Location, Work] = {}
    for index, setting in enumerate(settings):
        if index not in known:
            progress = training_stage(setting.config).progress(setting.run)
            num_left = progress.num_total - progress.num_done
            estimate = estimate_run(setting.run, earlier, on_gpu=resources.on_gpu)
            work = Work(estimate=estimate, num_left=num_left, rounds=num_left)
            left[setting.layout.root] = max(
                left.get(setting.layout.root, work), work, key=lambda one: one.num_left
            )
    num_workers = min(resources.num_workers, max(1, len(left)))
    size = cohort_size(settings[0].run, replace(resources, num_workers=1))
    return estimate_rows([*left.values()], num_workers, size)


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
            key = ", ".join(f"{key.split('.')[-1]} {value_words(value)}" for key, value in others.items())
            groups.setdefault(key, []).append(scaled(name or "", result.metrics[name or ""]))
    unit = "" if "/num_" in (name or "") else " %"
    return [
        f"{f'{key}: ' if key else ''}{name} {mean(values):.2f}{unit} over {plural(len(values), 'seed')}, standard deviation "
        f"{stdev(values):.2f}, from {min(values):.2f} to {max(values):.2f}"
        for key, values in groups.items()
        if len(values) > 1
    ]


def state_words(result: SettingResult) -> str:
    """Return how a setting ended, as text, empty if it is done."""
    if result.state == "stopped":
        done, accuracy = result.metrics["num_tasks"], result.metrics["mean_accuracy"]
        return f"ended early: {plural(round(done), 'task')}, {100 * accuracy:.2f} %"
    return "failed" if result.state == "failed" else ""


def track_search(
    config: SweepConfig, results: Sequence[SettingResult], figures: Sequence[Location], display: Display
) -> None:
    """Send the results of a search to MLflow, and points that it lacks; warn of failures there, never raise."""
    if config.tracking.uri is None:
        return
    try:
        send_search(absolute_uri(config.tracking.uri), config, results, figures, display)
    except Exception as error:  # whatever MLflow raises must not fail the search
        display.message(
            f"MLflow did not accept the search ({first_line(error)[:160]}); run the same command to send it again"
        )


def send_search(
    uri: str,
    config: SweepConfig,
    results: Sequence[SettingResult],
    figures: Sequence[Location],
    display: Display,
) -> None:
    """Send the results of a search, and points that it lacks, to a store of MLflow, whose errors are of any type."""
    from orchestrator.tracking.search_run import absent_points, log_search  # imports mlflow

    search = _tracked_search(config, results, figures)
    absent = absent_points(uri, search)
    layouts = {one.setting.layout for one in results if one.setting.run.fingerprint in absent}
    for layout in layouts:
        if layout.run_file.exists():
            sync_run(layout.root, uri, display)
    log_search(uri, search)


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
