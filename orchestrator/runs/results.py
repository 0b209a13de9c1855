"""Everything measured on a run, as ``report/summary.json`` has it; and the files written beside it."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from orchestrator.config.load import sweep_yaml
from orchestrator.runs.run import Run
from storage.decisions import Rows, read_decisions
from storage.files import commit, commit_json, commit_text

GIVEN = "GG"  # the scenario without a method, since the task is given
Metrics = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The metrics of one evaluation.

    method: the label of how the task or its mask was found, empty in GG. num_batches: test batches of
    each task that counted, None for all. k: tasks, the first ones. metrics: accuracies are fractions.
    """

    scenario: str
    method: str = ""
    num_batches: int | None
    k: int
    metrics: Metrics

    @property
    def key(self) -> str:
        """The scenario's name in summary.json: GNu, or GNu-b10 where ten batches of each task counted."""
        return self.scenario if self.num_batches is None else f"{self.scenario}-b{self.num_batches}"


class Results(tuple[Result, ...]):
    """All results of a run, or some of them; each scenario, method, number of batches and k once."""

    __slots__ = ()

    def ascending(self) -> list[Result]:
        """Return the results by scenario, method and k."""
        return sorted(self, key=lambda one: (one.key, one.method, one.k))

    def merged(self, other: "Results") -> "Results":
        """Return these with ``other`` on top; a metric that ``other`` does not have stays."""
        both: dict[tuple[str, str, int], Result] = {}
        for one in (*self, *other):
            place = one.key, one.method, one.k
            old = both.get(place, one)
            both[place] = replace(one, metrics=old.metrics | one.metrics)
        return Results(both.values())

    def own(self, run: Run) -> "Results":
        """Return the results on the sweep's number of test batches, with its own method."""
        methods, num_batches = ("", run.config.evaluation.method.label), test_batches(run)
        return Results(x for x in self if x.num_batches == num_batches and x.method in methods)

    def asked(self, run: Run) -> "Results | None":
        """Return the results that the sweep asks for, in its order; None where one is missing."""
        evaluation = run.config.evaluation
        found = {(one.scenario, one.k): one for one in self.own(run)}
        places = [
            (name, k) for name in evaluation.asked for k in evaluation.ks(run.config.benchmark.num_tasks)
        ]
        return Results(found[at] for at in places) if found.keys() >= set(places) else None

    def metrics_by_k(self, own: Run) -> tuple[tuple[str, int, float], ...]:
        """Return (key, k, value) for MLflow.

        own: the run with the sweep as it was made, whose keys are short (GNu/accuracy); those of another
        method or number of test batches name it (GNu/one_shot-H-1/accuracy, GG-b10/accuracy).
        """
        method, num_batches = own.config.evaluation.method.label, test_batches(own)
        found = []
        for one in self:
            other = one.key if one.num_batches else f"{one.scenario}-all"
            name = one.scenario if one.num_batches == num_batches else other
            prefix = name if one.method in ("", method) else f"{name}/{one.method}"
            found += [(f"{prefix}/{metric}", one.k, value) for metric, value in one.metrics.items()]
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return scenario -> k -> metrics for GG, scenario -> method -> k -> metrics for the others."""
        content: dict[str, Any] = {}
        for one in self:
            of_scenario = content.setdefault(one.key, {})
            by_k = of_scenario.setdefault(one.method, {}) if one.method else of_scenario
            by_k[str(one.k)] = one.metrics
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Results":
        """Return the results that ``to_json`` gave, in the order of ``content``."""
        found = []
        for key, of_scenario in content.items():
            scenario, _, batches = key.partition("-b")
            num_batches = int(batches) if batches else None
            for method, by_k in ({"": of_scenario} if scenario == GIVEN else of_scenario).items():
                place: dict[str, Any] = {"scenario": scenario, "method": method, "num_batches": num_batches}
                found += [Result(**place, k=int(k), metrics=metrics) for k, metrics in by_k.items()]
        return cls(found)


def read_results(run: Run) -> Results:
    """Return what summary.json has; nothing when there is none that can be read."""
    try:
        return Results.from_json(json.loads(run.layout.summary.read_text()))
    except (OSError, ValueError):
        return Results()


def write_report(run: Run, results: Results) -> None:
    """Write summary.json (keeping what was there), tasks.parquet and config.yaml."""
    layout = run.layout
    commit_json(layout.summary, read_results(run).merged(results).to_json())
    infos = run.store.info_table()
    if len(infos) or not layout.tasks.exists():  # masks may have been thrown away; what was known stays
        commit(layout.tasks, lambda path: pq.write_table(infos, path, compression="zstd"))
    commit_text(layout.config, sweep_yaml(run.config))


def test_batches(run: Run) -> int | None:
    """Return how many test batches of each task count, None for all."""
    batches = run.config.evaluation.batches
    return None if batches == "all" else batches


def finished_log(run: Run) -> Rows | None:
    """Return the log of a stream that has ended, None before that. Raises DamagedFileError."""
    rows, is_complete = read_decisions(run.layout, run.fingerprint)
    return rows if is_complete else None
