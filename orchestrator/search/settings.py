"""The settings of a search, computed from the sweep file each time, and their stored results."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from core.errors import ConfigError
from orchestrator.config.load import config_values, set_keys
from orchestrator.config.search import DRAWN, SearchConfig, Settings, Value, values_words
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.results import Results
from orchestrator.runs.run import Run, locate_run
from orchestrator.runs.search_file import (
    SEARCH_FILE,
    SearchRecord,
    SearchRow,
    State,
    known_search,
    search_folder,
)
from orchestrator.status import complete_results
from storage.files import commit_text
from storage.layout import RunLayout
from storage.locations import Location


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One run of a search. values: of the varied keys, by dotted key."""

    values: Settings
    run: Run

    @property
    def config(self) -> SweepConfig:
        """The sweep of this setting."""
        return self.run.config

    @property
    def layout(self) -> RunLayout:
        """The layout of its run folder."""
        return self.run.layout

    @property
    def digest(self) -> str:
        """A digest of all values that affect the result."""
        values = config_values(self.config)
        kept = {
            key: values[key] for key in ("seed", "benchmark", "network", "mask", "training", "evaluation")
        }
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return values_words(self.values)


@dataclass(frozen=True, kw_only=True)
class SettingResult:
    """The result of a setting.

    metrics: at the largest k, by MLflow's names; if ended early, ``mean_accuracy`` so far and
    ``num_tasks``. error: if it failed.
    """

    setting: Setting
    state: State
    metrics: dict[str, float]
    error: str | None = None


def plan_settings(config: SweepConfig) -> list[Setting]:
    """Return the settings: the grid in the order of the file, last key fastest, each with its draws.

    Raises ConfigError on an invalid or duplicate setting.
    """
    search = search_config(config)
    settings: list[Setting] = []
    seen: dict[tuple[Location, str], Setting] = {}
    for values in _combinations(search, config.seed):
        setting = _setting(config, values)
        other = seen.setdefault((setting.layout.root, setting.digest), setting)
        if other is not setting and not any(d.kind in DRAWN for d in search.dimensions):
            raise ConfigError(f"search.space: found ({other}) and ({setting}), which are the same run")
        if other is setting:  # the same values may be drawn twice
            settings.append(setting)
    return settings


def _combinations(search: SearchConfig, seed: int) -> Iterator[Settings]:
    grid = [d for d in search.dimensions if d.kind not in DRAWN]
    drawn = [d for d in search.dimensions if d.kind in DRAWN]
    for values in itertools.product(*(d.values for d in grid)):
        fixed: dict[str, Value] = {d.key: value for d, value in zip(grid, values, strict=True)}
        for sample in range(search.num_samples or 1):
            chosen = fixed | {d.key: d.draw(seed, sample) for d in drawn}
            yield {d.key: chosen[d.key] for d in search.dimensions}


def _setting(config: SweepConfig, values: Settings) -> Setting:
    named = ", ".join(f"{key}={value}" for key, value in values.items())
    chosen = set_keys(replace(config, search=None), values, f"search point {named}")
    return Setting(values=values, run=locate_run(chosen))


def settled(config: SweepConfig, settings: Sequence[Setting]) -> dict[int, SettingResult]:
    """Return the stored results by index of the setting: finished, or ended early by the same rules."""
    rules, rows = stop_rules(search_config(config)), read_rows(config)
    found = {}
    for index, setting in enumerate(settings):
        results, row = complete_results(setting.run), rows.get(setting.digest)
        if results is not None:
            metrics = metrics_at_last_k(setting.run, results)
            found[index] = SettingResult(setting=setting, state="done", metrics=metrics)
        elif row is not None and row.state == "stopped" and row.rules == rules:
            found[index] = SettingResult(setting=setting, state="stopped", metrics=row.metrics)
    return found


def metrics_at_last_k(run: Run, results: Results) -> dict[str, float]:
    """Return the metrics of the largest k, by MLflow's names."""
    by_k = sorted(results.metrics_by_k(run), key=lambda item: item[1])
    return {key: value for key, _, value in by_k}  # the last k overwrites the others


def stop_rules(search: SearchConfig) -> str:
    """Return the rules by which settings end early; under other rules they may go on."""
    return f"{search.scheduler}-{search.grace_tasks}-{search.reduction_factor}"


def read_rows(config: SweepConfig) -> dict[str, SearchRow]:
    """Return the rows in ``search.json``, by digest of the setting."""
    return {row.digest: row for row in known_search(search_folder(config)).points}


def write_results(
    config: SweepConfig, settings: Sequence[Setting], found: Mapping[int, SettingResult]
) -> None:
    """Commit ``search.json``: the sweep, the run folders, and a row per setting. found: results by index."""
    search = search_config(config)
    rows = [_row(setting, found.get(index), stop_rules(search)) for index, setting in enumerate(settings)]
    values = config_values(config)
    del values["storage"]  # it is where the search is, also after a move
    record = SearchRecord(
        sweep=values,
        space={key: list(values) for key, values in search.space.items()},
        runs=sorted({setting.layout.root.name for setting in settings}),
        points=rows,
    )
    # Not sorted: the order of the space is that of the points and of the columns.
    text = json.dumps(asdict(record), indent=2, allow_nan=False)
    commit_text(search_folder(config) / SEARCH_FILE, text + "\n")


def _row(setting: Setting, result: SettingResult | None, rules: str) -> SearchRow:
    return SearchRow(
        settings=setting.values,
        folder=setting.layout.root.name,
        digest=setting.digest,
        state=result.state if result else "left",
        metrics=result.metrics if result else {},
        error=result.error if result else None,
        rules=rules,
    )


def results_json(config: SweepConfig) -> str:
    """Return ``search.json``, indented."""
    return json.dumps(asdict(known_search(search_folder(config))), indent=2)


def changes(config: SweepConfig) -> str | None:
    """Describe the changes of the space since the last search; None if there are none."""
    old = known_search(search_folder(config)).space
    new = {key: list(values) for key, values in search_config(config).space.items()}
    if not old or old == new:
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


def search_config(config: SweepConfig) -> SearchConfig:
    """Return the ``search`` section of a search's sweep."""
    assert config.search is not None, "a search has a space"
    return config.search
