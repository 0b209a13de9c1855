"""The points of a search, computed from the sweep file each time, and what is known of them."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from core.errors import ConfigError, DamagedFileError, RunFolderError
from orchestrator.config.load import config_values, set_keys
from orchestrator.config.search import DRAWN, SearchConfig, Settings, Value
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.history import read_failures
from orchestrator.runs.results import Measured, metrics_by_k, num_expected_masks, read_summary, scenario_key
from orchestrator.runs.run import Run, locate_run
from orchestrator.runs.search_file import SEARCH_FILE, _read_file, search_folder
from storage.checkpoints import num_learned
from storage.files import commit_json
from storage.layout import RunLayout
from storage.locations import Location

State = Literal["done", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run of a search. settings: the values of this point, by dotted key."""

    settings: Settings
    run: Run

    @property
    def config(self) -> SweepConfig:
        """The sweep of this point."""
        return self.run.config

    @property
    def layout(self) -> RunLayout:
        """Of its run folder."""
        return self.run.layout

    @property
    def digest(self) -> str:
        """What tells this point from others: all that decides its result."""
        values = config_values(self.config)
        kept = {
            key: values[key] for key in ("seed", "benchmark", "network", "mask", "training", "evaluation")
        }
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return settings_words(self.settings)


@dataclass(frozen=True, kw_only=True)
class PointResult:
    """What became of a point.

    metrics: at the largest k, by MLflow's names; of a point that was ended early ``mean_accuracy`` so
    far and ``num_tasks``. error: of one that failed.
    """

    point: Point
    state: State
    metrics: dict[str, float]
    error: str | None = None


def plan_points(config: SweepConfig) -> list[Point]:
    """Return the points: the grid in the order of the file, last key fastest, each with its draws.

    Raises ConfigError on a point that is no sweep, or is there twice.
    """
    search = _search(config)
    points: list[Point] = []
    seen: dict[tuple[Location, str], Point] = {}
    for settings in _combinations(search, config.seed):
        point = _point(config, settings)
        other = seen.setdefault((point.layout.root, point.digest), point)
        if other is not point and not any(d.kind in DRAWN for d in search.dimensions):
            raise ConfigError(f"search.space: found ({other}) and ({point}), which are the same run")
        if other is point:  # a choice may well be drawn twice
            points.append(point)
    return points


def _combinations(search: SearchConfig, seed: int) -> Iterator[Settings]:
    grid = [d for d in search.dimensions if d.kind not in DRAWN]
    drawn = [d for d in search.dimensions if d.kind in DRAWN]
    for values in itertools.product(*(d.values for d in grid)):
        fixed: dict[str, Value] = {d.key: value for d, value in zip(grid, values, strict=True)}
        for sample in range(search.num_samples or 1):
            chosen = fixed | {d.key: d.draw(seed, sample) for d in drawn}
            yield {d.key: chosen[d.key] for d in search.dimensions}


def _point(config: SweepConfig, settings: Settings) -> Point:
    named = ", ".join(f"{key}={value}" for key, value in settings.items())
    chosen = set_keys(replace(config, search=None), settings, f"search point {named}")
    return Point(settings=settings, run=locate_run(chosen))


def settings_words(settings: Settings) -> str:
    """Return settings in few words, such as ``lr 0.01, outputs 500``."""
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in settings.items())


def settled(config: SweepConfig, points: Sequence[Point]) -> dict[int, PointResult]:
    """Return, by index, the points that need no run: finished ones, and those ended early before."""
    rules, rows = stop_rules(_search(config)), read_rows(config)
    found = {}
    for index, point in enumerate(points):
        metrics = stored_metrics(point)
        row = rows.get(point.digest, {})
        if metrics is not None:
            found[index] = PointResult(point=point, state="done", metrics=metrics)
        elif row.get("state") == "stopped" and row.get("rules") == rules:
            found[index] = PointResult(point=point, state="stopped", metrics=row["metrics"])
    return found


def stored_metrics(point: Point) -> dict[str, float] | None:
    """Return the metrics of a point whose run folder is whole, None where something is left to do."""
    run = point.run
    if not run.layout.run_file.exists():
        return None
    try:
        if read_failures(run) or not _is_whole(point):
            return None
        return metrics_at_last_k(point.config, asked(run, read_summary(run)))
    except (KeyError, DamagedFileError, RunFolderError):
        return None


def _is_whole(point: Point) -> bool:
    """Tell whether everything of a point is trained."""
    run, num_tasks = point.run, point.config.benchmark.num_tasks
    if point.config.baseline is not None:
        return num_learned(run.layout) >= num_tasks
    num_masks = num_expected_masks(run, num_tasks)
    return num_masks > 0 and run.store.locate().keys() >= set(range(num_masks))


def asked(run: Run, measured: Measured) -> Measured:
    """Return what the sweep asks for of a summary. Raises KeyError where that is not all there."""
    evaluation = run.config.evaluation
    points = [str(k) for k in evaluation.ks(run.config.benchmark.num_tasks)]
    found: Measured = {}
    for scenario in evaluation.asked:
        key = scenario_key(run, scenario)
        if scenario == "GG":
            found[key] = {k: measured[key][k] for k in points}
        else:
            label = evaluation.method.label
            found[key] = {label: {k: measured[key][label][k] for k in points}}
    return found


def metrics_at_last_k(config: SweepConfig, measured: Measured) -> dict[str, float]:
    """Return the metrics of the largest k, by MLflow's names."""
    by_k = sorted(metrics_by_k(measured, config), key=lambda item: item[1])
    return {key: value for key, _, value in by_k}  # of the largest k, which comes last


def stop_rules(search: SearchConfig) -> str:
    """Return what decides that a point ends early; with other rules it may go on."""
    return f"{search.scheduler}-{search.grace_tasks}-{search.reduction_factor}"


def read_rows(config: SweepConfig) -> dict[str, dict[str, Any]]:
    """Return what the last search wrote of its points, by their digest."""
    return {row["digest"]: row for row in _read_file(search_folder(config)).get("points", [])}


def write_results(config: SweepConfig, points: Sequence[Point], results: Sequence[PointResult]) -> None:
    """Commit ``search.json``: the space, the run folders of all points, a row for each that has ended."""
    search = _search(config)
    rows = [
        {
            "settings": result.point.settings,
            "folder": str(result.point.layout.root),
            "digest": result.point.digest,
            "state": result.state,
            "metrics": result.metrics,
            "error": result.error,
            "rules": stop_rules(search),
        }
        for result in results
    ]
    space = {key: list(values) for key, values in search.space.items()}
    runs = sorted({point.layout.root.name for point in points})
    commit_json(search_folder(config) / SEARCH_FILE, {"space": space, "runs": runs, "points": rows})


def results_json(config: SweepConfig) -> str:
    """Return what ``search.json`` says, as indented JSON."""
    return json.dumps(_read_file(search_folder(config)), indent=2)


def changes(config: SweepConfig) -> str | None:
    """Say how the space differs from that of the last search; None where it does not, or is the first."""
    old = _read_file(search_folder(config)).get("space")
    new = {key: list(values) for key, values in _search(config).space.items()}
    if old is None or old == new:
        return None
    words = []
    for key in {**old, **new}:
        before, after = old.get(key, []), new.get(key, [])
        added = [value for value in after if value not in before]
        gone = [value for value in before if value not in after]
        if added or gone:
            what = [
                f"{word} {', '.join(map(str, values))}"
                for word, values in (("+", added), ("-", gone))
                if values
            ]
            words.append(f"{key} {' '.join(what)}")
    return "; ".join(words) or "another order"


def _search(config: SweepConfig) -> SearchConfig:
    assert config.search is not None, "a search has a space"
    return config.search
