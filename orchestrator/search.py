"""A search: one run for each combination of values, several at a time, each resumable by itself.

The points are computed from the sweep file each time: a point whose run folder is whole trains
nothing, a new value adds points. Each run goes on inside one worker, from start to end.
"""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.console import Console

from core.datasets import load_dataset
from core.errors import ConfigError, SupSupError, first_line
from orchestrator.config import SweepConfig, set_keys
from orchestrator.config_sections import Value
from orchestrator.display import Display, PlainDisplay
from orchestrator.report import Measured, metrics_by_k
from orchestrator.resources import find_resources
from orchestrator.run_folder import locate_run
from storage.files import commit_json
from storage.layout import RunLayout
from storage.places import AnyPath, to_place

Settings = dict[str, Value]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run of a search. settings: the values of this point, by dotted key. layout: of its folder."""

    settings: Settings
    config: SweepConfig
    layout: RunLayout

    def __str__(self) -> str:
        return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in self.settings.items())


@dataclass(frozen=True, kw_only=True)
class PointResult:
    """What became of a point. metrics: at the largest k, by MLflow's names. error: None if it ended well."""

    point: Point
    metrics: dict[str, float]
    error: str | None


def plan_points(config: SweepConfig) -> list[Point]:
    """Return the points in the order of the file, last key fastest. Raises ConfigError on a bad one."""
    assert config.search is not None, "a search has a space"
    keys = list(config.search.space)
    combinations = itertools.product(*config.search.space.values())
    points = [_point(config, dict(zip(keys, values, strict=True))) for values in combinations]
    by_folder: dict[AnyPath, Point] = {}
    for point in points:
        other = by_folder.setdefault(point.layout.root, point)
        if other is not point:
            raise ConfigError(
                f"search.space: found ({other}) and ({point}), which are one run; expected points whose masks "
                "differ (with the task given, the number of tasks makes no other run)"
            )
    return points


def run_search(config: SweepConfig, data_folder: Path | None, display: Display) -> list[PointResult]:
    """Run every point, tell of each as it ends, write ``search.json``; results in the points' order."""
    points = plan_points(config)
    load_dataset(config.benchmark.dataset, data_folder)  # what is missing is said once, before anything runs
    results: list[PointResult | None] = [None] * len(points)
    work = partial(_run_point, data_folder=data_folder)
    for number, (index, outcome) in enumerate(_run_all(config, work, points), start=1):
        result = _result(points[index], outcome)
        results[index] = result
        display.message(f"{number}/{len(points)} {result.point}: {_words(result)}")
    found = [result for result in results if result is not None]
    commit_json(search_folder(config) / "search.json", [_row(result) for result in found])
    return found


def search_folder(config: SweepConfig) -> AnyPath:
    """Return where tables and figures over all points go."""
    return to_place(config.storage.uri) / f"{config.name}-search"


def _point(config: SweepConfig, settings: Settings) -> Point:
    named = ", ".join(f"{key}={value}" for key, value in settings.items())
    chosen = set_keys(replace(config, search=None), settings, f"search point {named}")
    return Point(settings=settings, config=chosen, layout=locate_run(chosen).layout)


def _run_all(config: SweepConfig, work: Any, points: Sequence[Point]) -> Iterator[tuple[int, Any]]:
    """Yield (index, what came of it) as points end."""
    if config.executor.kind == "inline":
        for index, point in enumerate(points):
            yield index, work(point)
        return
    from orchestrator.ray_executor import run_in_parallel  # imports ray: only when there is work

    resources = find_resources(config.executor, connect=True)
    yield from run_in_parallel(
        work,
        points,
        num_workers=min(resources.num_workers, len(points)),
        gpus_per_worker=resources.gpus_per_worker,
        threads_per_worker=config.executor.threads_per_worker,
        address=config.executor.address,
    )


def _run_point(point: Point, *, data_folder: Path | None) -> tuple[Measured, str | None]:
    """Run one point in this process; return what it measured, and what went wrong."""
    from orchestrator.sweep import run_sweep  # imports torch: only where runs go on

    executor = replace(point.config.executor, kind="inline", workers=1, address=None)
    config = replace(point.config, executor=executor)
    try:
        result = run_sweep(config, data_folder, PlainDisplay(Console(file=io.StringIO())))
    except SupSupError as error:
        return {}, str(error)
    failed = [f"{failure.job}: {first_line(failure.error)}" for failure in result.failures]
    return result.measured, "; ".join(failed) or None


def _result(point: Point, outcome: Any) -> PointResult:
    measured, error = ({}, first_line(outcome)) if isinstance(outcome, Exception) else outcome
    by_k = sorted(metrics_by_k(measured, point.config.evaluation.way.label), key=itemgetter(1))
    metrics = {key: value for key, _, value in by_k}  # of the largest k, which comes last
    return PointResult(point=point, metrics=metrics, error=error)


def _words(result: PointResult) -> str:
    if result.error is not None:
        return f"failed: {result.error}"
    accuracies = {key: value for key, value in result.metrics.items() if key.endswith("/accuracy")}
    return ", ".join(f"{key} {100 * value:.2f} %" for key, value in accuracies.items())


def _row(result: PointResult) -> dict[str, Any]:
    return {
        "settings": result.point.settings,
        "folder": str(result.point.layout.root),
        "metrics": result.metrics,
        "error": result.error,
    }
