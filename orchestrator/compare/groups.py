"""Groups of runs that differ in the same keys, and their rows; no files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from core.errors import ConfigError
from orchestrator.compare.statistics import Difference, Summary, paired_difference, summary


class Cell(NamedTuple):
    """What was measured. since: the k that a metric of the accuracy matrix compares, empty for an accuracy."""

    scenario: str
    inference: str
    k: int
    metric: str
    since: tuple[int, ...] = ()

    def __str__(self) -> str:
        words = f"{self.scenario} {self.metric.replace('_', ' ')}, k = {self.k:,}"
        return f"{words}, {self.inference}" if self.inference else words


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A finished run. keys: of its sweep, dotted. deciding: those that its masks depend on. source: digest of its numbers."""

    name: str
    source: str
    method: str
    keys: Mapping[str, Any]
    deciding: Mapping[str, Any]
    values: Mapping[Cell, float]

    @property
    def ks(self) -> set[int]:
        """Each k that was measured."""
        return {cell.k for cell in self.values if not cell.since}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A group's values of a cell. difference: from the first group, None for that one. runs: their names."""

    cell: Cell
    group: str
    values: Summary
    difference: Difference | None
    runs: tuple[str, ...]


Groups = dict[str, dict[Any, Measured]]  # label -> value of the key that is averaged over -> run


def group_runs(runs: Sequence[Measured], by: Sequence[str] | None, over: str) -> Groups:
    """Return the runs by group, in order. by: keys, None for all that differ. Raises ConfigError for two in one place."""
    labels = group_labels(runs, differing(runs, over) if by is None else by)
    groups: Groups = {}
    for run, label in zip(runs, labels, strict=True):
        value = _text(run.keys.get(over))
        other = groups.setdefault(label, {}).setdefault(value, run)
        if other is not run:
            keys = ", ".join(differing([other, run], over)) or "nothing that decides its masks"
            raise ConfigError(
                f"{other.name} and {run.name} are both {label} with {over} {value}, and differ in {keys}; "
                "name these keys with --by, or leave one out"
            )
    return groups


def differing(runs: Sequence[Measured], over: str) -> list[str]:
    """Return the keys, but ``over`` and those that the method names, in which runs differ."""
    keys = dict.fromkeys(key for run in runs for key in run.deciding)
    named = ("baseline", "baseline.kind", "baseline.random_weights", over)
    return [key for key in keys if key not in named and len({_text(run.keys.get(key)) for run in runs}) > 1]


def group_labels(runs: Sequence[Measured], by: Sequence[str]) -> list[str]:
    """Return the method of each run, with those keys of ``by`` that differ among the runs of this method."""
    labels = []
    for run in runs:
        alike = [other for other in runs if other.method == run.method]
        shown = [key for key in by if len({_text(other.keys.get(key)) for other in alike}) > 1]
        words = [f"{key.rpartition('.')[2]}={_text(run.keys.get(key))}" for key in shown]
        labels.append(", ".join([run.method, *words]))
    return labels


def group_rows(groups: Groups, cells: Sequence[Cell]) -> list[Row]:
    """Return a row per cell and group that has it; differences are from the first group of all."""
    rows, first = [], next(iter(groups))
    for cell in cells:
        values = {label: _values(runs, cell) for label, runs in groups.items()}
        for label, found in values.items():
            if found:
                difference = None if label == first else paired_difference(found, values[first])
                names = tuple(run.name for run in groups[label].values() if cell in run.values)
                numbers = summary([*found.values()])
                rows.append(Row(cell=cell, group=label, values=numbers, difference=difference, runs=names))
    return rows


def _values(runs: Mapping[Any, Measured], cell: Cell) -> dict[Any, float]:
    return {over: run.values[cell] for over, run in runs.items() if cell in run.values}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
