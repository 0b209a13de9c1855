"""A search that was begun, from its folder: its sweep, its points, their results; nothing runs here."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.errors import ConfigError, RunFolderError
from core.specs.own_code import OwnCode
from orchestrator.config.load import build_sweep, change_settings, config_values, set_keys
from orchestrator.config.search import DRAWN, SearchConfig
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.dataset import recorded_code
from orchestrator.runs.nearest import changed_keys
from orchestrator.runs.run import Run, open_run, require_stored_code
from orchestrator.runs.search_file import (
    SEARCH_FILE,
    Point,
    SearchRecord,
    read_points,
    read_search_file,
    search_folder,
)
from orchestrator.search.settings import Setting, SettingResult, read_rows, search_config, settled
from storage.layout import RunLayout
from storage.locations import Location, location_uri
from storage.run_file import read_run


@dataclass(frozen=True, kw_only=True)
class StoredSearch:
    """A search as its folder has it. config: its sweep, with the storage where the folder is now.

    has_sweep: False if an earlier version wrote it without its sweep; ``config`` is then put together from
    a run and the space, good for reading, not for going on.
    """

    folder: Location
    config: SweepConfig
    points: tuple[Point, ...]
    has_sweep: bool

    @property
    def search(self) -> SearchConfig:
        """The ``search`` section of its sweep."""
        return search_config(self.config)

    def num_tasks(self, point: Point) -> int:
        """Return the number of tasks of a point."""
        num = point.values.get("benchmark.num_tasks", self.config.benchmark.num_tasks)
        if type(num) is not int:
            raise RunFolderError(
                f"{self.folder / SEARCH_FILE}: found benchmark.num_tasks {num!r}, expected a number"
            )
        return num

    def run_of(self, point: Point) -> Run | None:
        """Return the run of a point, with the point's own sweep; None if it has not begun.

        A network of the user's own is not imported. Raises RunFolderError.
        """
        if not RunLayout(point.root).run_file.is_file():
            return None
        chosen = set_keys(replace(self.config, search=None), point.values, str(self.folder / SEARCH_FILE))
        return replace(open_run(point.root)[0], config=chosen)


def read_search(folder: Location) -> StoredSearch:
    """Return the search in a folder. Raises RunFolderError if it is unreadable or was renamed."""
    record, points = read_search_file(folder), read_points(folder)
    has_sweep = record.sweep is not None
    config = (
        _stored_sweep(folder, record.sweep)
        if record.sweep is not None
        else _old_sweep(folder, record, points)
    )
    _check_points(folder, config, points)
    if search_folder(config).name != folder.name:
        raise RunFolderError(f"{folder}: was renamed; its search calls it {search_folder(config).name}")
    return StoredSearch(folder=folder, config=config, points=points, has_sweep=has_sweep)


def _check_points(folder: Location, config: SweepConfig, points: Sequence[Point]) -> None:
    """Raise RunFolderError unless each point has a value for each key of the search's space."""
    space = config.search
    keys = {dimension.key for dimension in space.dimensions} if space is not None else set()
    for point in points:
        if not keys or point.values.keys() != keys:
            expected = ", ".join(sorted(keys)) or "a search"
            raise RunFolderError(
                f"{folder / SEARCH_FILE}: found a point of {', '.join(point.values) or 'no keys'}, but its sweep "
                f"varies {expected}; running the search's sweep file writes it again"
            )


def _stored_sweep(folder: Location, sweep: dict[str, Any]) -> SweepConfig:
    storage = {"uri": location_uri(folder.parent)}
    try:
        return build_sweep({**sweep, "storage": storage}, str(folder / SEARCH_FILE))
    except ConfigError as error:
        raise RunFolderError(f"{error} (was this search made by another version of supsup?)") from error


def _old_sweep(folder: Location, record: SearchRecord, points: Sequence[Point]) -> SweepConfig:
    """Return the sweep of a search that does not hold it: that of a run, with the space."""
    root = next((point.root for point in points if RunLayout(point.root).run_file.is_file()), None)
    if root is None:
        raise RunFolderError(
            f"{folder / SEARCH_FILE}: none of its runs is in {folder.parent}; move them there as well"
        )
    values = config_values(open_run(root)[0].config)
    is_drawn = any(key.rpartition(".")[2] in DRAWN for key in record.space)
    values["search"] = {"space": record.space, "num_samples": len(points) if is_drawn else None}
    return _stored_sweep(folder, values)


def search_results(search: StoredSearch) -> list[SettingResult]:
    """Return the results that the run folders have now, in the order of the points; failures as stored."""
    runs = [(point, search.run_of(point)) for point in search.points]
    settings = [Setting(values=point.values, run=run) for point, run in runs if run is not None]
    found, rows = settled(search.config, settings), read_rows(search.config)
    results = []
    for index, setting in enumerate(settings):
        row = rows.get(setting.digest)
        if index in found:
            results.append(found[index])
        elif row is not None and row.state == "failed":
            results.append(
                SettingResult(setting=setting, state="failed", metrics=row.metrics, error=row.error)
            )
    return results


def resumed_search(folder: Location, settings: Sequence[str]) -> SweepConfig:
    """Return the sweep of a search, with ``key=value`` settings, that continues in this very folder.

    Raises ConfigError for settings that make other points than the space says, RunFolderError for a
    folder that cannot go on.
    """
    stored = read_search(folder)
    if not stored.has_sweep:
        raise RunFolderError(
            f"{folder / SEARCH_FILE}: an earlier version of supsup wrote it, and it holds no sweep; give the sweep "
            "file, which adds it"
        )
    old = stored.config
    for code in old.run_spec().own_code:
        require_stored_code(code, _recorded_code(stored, code), folder / SEARCH_FILE)
    new = change_settings(old, settings, [field.name for field in dataclasses.fields(SweepConfig)])
    if new.search is None:
        raise ConfigError(
            f"search: found null, expected the search in {folder}; give a sweep file for one run"
        )
    moved = [] if search_folder(new) == search_folder(old) else ["name or storage.uri"]
    changes = [*changed_keys(old, new), *moved]
    if changes:
        raise ConfigError(
            f"{', '.join(changes)}: makes a search of its own, not this one ({folder}); give a sweep file for that"
        )
    return new


def _recorded_code(stored: StoredSearch, code: OwnCode) -> list[str | None]:
    """Return the digest that the run of each point has of the user's own code."""
    runs = (stored.run_of(point) for point in stored.points)
    return [recorded_code(read_run(run.layout)).get(code.key) for run in runs if run is not None]
