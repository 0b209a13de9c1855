"""The accuracy matrix R[k, j]: accuracy on task j once the first k tasks are learned."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.errors import DamagedFileError, RunFolderError
from core.metrics import ContinualMetrics, continual_metrics
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.made_from import TableSources, table_sources
from orchestrator.runs.matrix_page import matrix_page
from orchestrator.runs.results import Result, read_results
from orchestrator.runs.run import Run
from storage.layout import TableKey
from storage.mask_facts import MaskFacts
from storage.matrix_file import write_matrix
from storage.tables import read_evaluation, task_accuracies


@dataclass(frozen=True, kw_only=True)
class AccuracyMatrix:
    """The accuracies of one scenario and method of inference.

    ks: the numbers of tasks learned, ascending. values: float64 [len(ks), max(ks)], fractions; NaN for tasks that
    are not learned yet.
    """

    scenario: str
    method: str
    ks: tuple[int, ...]
    values: NDArray[np.float64]

    @cached_property
    def metrics(self) -> ContinualMetrics:
        """Average accuracy, backward transfer, forgetting and learning accuracy."""
        return continual_metrics(self.values, self.ks)

    @cached_property
    def table(self) -> pa.Table:
        """A row per measured entry: k, task, accuracy."""
        row, task = np.nonzero(~np.isnan(self.values))
        columns: dict[str, Any] = {
            "k": np.array(self.ks, dtype=np.int32)[row],
            "task": task.astype(np.int32),
            "accuracy": self.values[row, task],
        }
        return pa.table(columns)

    def _repr_html_(self) -> str | None:
        """Return the matrix and its metrics, for notebooks."""
        line = f"{self.scenario}, {self.method or 'task given'}: accuracy in % once k tasks are learned"
        return matrix_page(line, self.ks, self.values, self.metrics)


def accuracy_matrix(run: Run, scenario: str) -> AccuracyMatrix:
    """Return the matrix at each k that was evaluated, by the run's own method. Raises RunFolderError if there is none."""
    facts = run.store.facts()
    results = read_results(run, facts)
    found = [one for one in results.own(run).ascending() if one.scenario == scenario]
    if not found:
        known = sorted({one.scenario for one in results})
        raise RunFolderError(
            f"{run.name}: scenario {scenario!r} is not evaluated, found {', '.join(known) or 'none'}"
        )
    return _read_matrix(run, table_sources(run, facts), found)


def accuracy_matrices(run: Run, facts: MaskFacts | None = None) -> dict[TableKey, AccuracyMatrix]:
    """Return the matrix of each scenario measured at more than one k, by the key of its last table.

    facts: of the masks, None for those of now. Matrices of damaged tables are left out: ``verify`` names these.
    """
    facts = run.store.facts() if facts is None else facts
    found: dict[str, list[Result]] = {}
    for one in read_results(run, facts).own(run).ascending():
        found.setdefault(one.scenario, []).append(one)
    matrices = {}
    for results in found.values():
        with suppress(DamagedFileError):
            if len(results) > 1:
                matrices[results[-1].table] = _read_matrix(run, table_sources(run, facts), results)
    return matrices


def write_matrices(run: Run, facts: MaskFacts) -> None:
    """Write ``report/matrix-*.parquet``; keep those of masks deleted since. facts: of the masks."""
    sources = table_sources(run, facts)
    for key, matrix in accuracy_matrices(run, facts).items():
        masks = sources.masks(key.k)
        if masks is not None:
            write_matrix(run.layout, key, matrix.table, run.fingerprint, masks)


def _read_matrix(run: Run, sources: TableSources, results: Sequence[Result]) -> AccuracyMatrix:
    """Return the matrix of results of one scenario and method, k ascending. Raises DamagedFileError."""
    by_k = {}
    for one in results:
        try:
            table = read_evaluation(run.layout.evaluation(one.table), run.fingerprint, sources.masks(one.k))
        except DamagedFileError as error:
            again = supsup_command("evaluate", run.layout.root, config=run.config)
            raise DamagedFileError(f"{error}; `{again}` makes it again") from error
        by_k[one.k] = task_accuracies(table)
    return _matrix(results[0].scenario, results[0].method, by_k)


def _matrix(scenario: str, method: str, by_k: dict[int, dict[int, float]]) -> AccuracyMatrix:
    ks = tuple(by_k)
    values = np.full((len(ks), max(ks)), np.nan)  # a forgotten task has a column, and no numbers in it
    for row, of_k in enumerate(by_k.values()):
        values[row, [*of_k]] = [*of_k.values()]
    return AccuracyMatrix(scenario=scenario, method=method, ks=ks, values=values)
