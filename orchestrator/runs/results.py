"""The results of a run, as in ``report/summary.json``, and the report files."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from core.errors import DamagedFileError
from core.masks.bits import joint_digest
from orchestrator.config.load import sweep_yaml
from orchestrator.runs.made_from import TableSources, table_sources
from orchestrator.runs.run import Run
from storage.decisions import Rows, read_decisions
from storage.files import commit_text
from storage.layout import TableKey
from storage.mask_facts import MaskFacts
from storage.summary import read_summary, write_summary
from storage.tables import write_table

GIVEN = "GG"  # the scenario without a method, since the task is given
Metrics = dict[str, float]
COUNTS = ("num_inferences", "num_images", "num_deciding_images")  # what shares of inferred tasks are of


@dataclass(frozen=True, kw_only=True)
class Result:
    """The metrics of one evaluation.

    method: label of the inference or recovery method, empty in GG. num_batches: test batches used per
    task, None for all. k: number of tasks, the first ones. metrics: accuracies are fractions.
    is_stored: measured before the current command; not written anywhere.
    """

    scenario: str
    method: str = ""
    num_batches: int | None
    k: int
    metrics: Metrics
    is_stored: bool = field(default=False, compare=False)

    @property
    def shares(self) -> Metrics:
        """The metrics without ``COUNTS``, for people: those would be flat curves and more columns."""
        return {name: value for name, value in self.metrics.items() if name not in COUNTS}

    @property
    def table(self) -> TableKey:
        """The key of the evaluation table behind the result."""
        label = f"{self.scenario}-{self.method}" if self.method else self.scenario
        return TableKey(label, self.k, self.num_batches)

    @property
    def key(self) -> str:
        """The scenario's name in summary.json: GNu, or GNu-b10 on ten test batches per task."""
        return self.scenario if self.num_batches is None else f"{self.scenario}-b{self.num_batches}"


class Results(tuple[Result, ...]):
    """Results of a run, unique by scenario, method, number of batches and k."""

    __slots__ = ()

    def ascending(self) -> list[Result]:
        """Return the results by scenario, method and k."""
        return sorted(self, key=lambda one: (one.key, one.method, one.k))

    def merged(self, other: "Results") -> "Results":
        """Return the union; metrics of ``other`` take precedence."""
        both: dict[tuple[str, str, int], Result] = {}
        for one in (*self, *other):
            key = one.key, one.method, one.k
            old = both.get(key, one)
            both[key] = replace(one, metrics=old.metrics | one.metrics)
        return Results(both.values())

    def marked(self, stored: Collection[TableKey]) -> "Results":
        """Return the results; those whose table is in ``stored`` are marked as measured before."""
        return Results(replace(one, is_stored=one.table in stored) for one in self)

    def own(self, run: Run) -> "Results":
        """Return the results with the sweep's own method and number of test batches."""
        methods, num_batches = ("", run.config.evaluation.method.label), test_batches(run)
        return Results(x for x in self if x.num_batches == num_batches and x.method in methods)

    def asked(self, run: Run) -> "Results | None":
        """Return the results that the sweep asks for, in its order; None if one is missing."""
        evaluation = run.config.evaluation
        found = {(one.scenario, one.k): one for one in self.own(run)}
        ks = evaluation.ks(run.config.benchmark.num_tasks)
        wanted = [(scenario, k) for scenario in evaluation.asked for k in ks]
        return Results(found[key] for key in wanted) if found.keys() >= set(wanted) else None

    def metrics_by_k(self, own: Run) -> tuple[tuple[str, int, float], ...]:
        """Return (key, k, value) for MLflow.

        own: the run with its original sweep, whose keys are short (GNu/accuracy); keys of another method
        or number of test batches include it (GNu/one_shot-H-1/accuracy, GG-b10/accuracy).
        """
        method, num_batches = own.config.evaluation.method.label, test_batches(own)
        found = []
        for one in self:
            other = one.key if one.num_batches else f"{one.scenario}-all"
            name = one.scenario if one.num_batches == num_batches else other
            prefix = name if one.method in ("", method) else f"{name}/{one.method}"
            found += [(f"{prefix}/{metric}", one.k, value) for metric, value in one.shares.items()]
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
        """Return the results in the format of ``to_json``, in the order of ``content``."""
        found = []
        for key, of_scenario in content.items():
            scenario, _, batches = key.partition("-b")
            num_batches = int(batches) if batches else None
            for method, by_k in ({"": of_scenario} if scenario == GIVEN else of_scenario).items():
                keys: dict[str, Any] = {"scenario": scenario, "method": method, "num_batches": num_batches}
                found += [Result(**keys, k=int(k), metrics=metrics) for k, metrics in by_k.items()]
        return cls(found)


def read_results(run: Run, facts: MaskFacts | None = None) -> Results:
    """Return the results in summary.json that belong to the masks; none if it is missing or damaged.

    facts: of the masks, None for those of now.
    """
    return _current_results(run, table_sources(run, facts))[0]


def _current_results(run: Run, sources: TableSources) -> tuple[Results, dict[str, str]]:
    """Return those results, and by k the joint digest of the masks behind them."""
    try:
        content, made_from = read_summary(run.layout.summary)
        found = Results.from_json(content)
    except (DamagedFileError, ValueError, AttributeError, TypeError, KeyError):
        return Results(), {}
    current = {k: sources.masks(k) for k in {one.k for one in found}}
    return Results(one for one in found if current[one.k] in (None, made_from.get(str(one.k), ""))), made_from


def write_report(run: Run, results: Results, facts: MaskFacts | None = None) -> None:
    """Write summary.json (merged with the existing one), tasks.parquet and config.yaml.

    facts: of the masks, None for those of now.
    """
    facts = run.store.facts() if facts is None else facts
    layout, sources = run.layout, table_sources(run, facts)
    old, made_from = _current_results(run, sources)
    merged = old.merged(results)
    current = {str(k): sources.masks(k) for k in sorted({one.k for one in merged})}
    made_from = {k: made_from.get(k, "") if masks is None else masks for k, masks in current.items()}
    write_summary(layout.summary, merged.to_json(), made_from)
    infos = facts.info_table()
    if len(infos) or not layout.tasks.exists():  # keep the table of masks deleted since
        masks = joint_digest(infos["digest"].to_pylist())
        write_table(layout.tasks, infos, {"fingerprint": run.fingerprint, "masks": masks})
    commit_text(layout.config, sweep_yaml(run.config))


def test_batches(run: Run) -> int | None:
    """Return the number of test batches per task, None for all."""
    batches = run.config.evaluation.batches
    return None if batches == "all" else batches


def finished_log(run: Run) -> Rows | None:
    """Return the decision log of a stream, None until it has ended. Raises DamagedFileError."""
    rows, is_complete = read_decisions(run.layout, run.fingerprint)
    return rows if is_complete else None
