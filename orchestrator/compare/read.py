"""Finished runs read for a comparison, and why others do not fit."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

from core.errors import ConfigError
from orchestrator.compare.groups import Cell, Measured
from orchestrator.config.load import config_values, dotted_keys
from orchestrator.runs.accuracy_matrix import accuracy_matrices
from orchestrator.runs.nearest import deciding_keys
from orchestrator.runs.results import read_results
from orchestrator.runs.run import Run, open_run
from orchestrator.runs.search_file import read_points
from orchestrator.stages import training_stage
from orchestrator.status import resolve_run, resolve_search
from storage.layout import RunLayout
from storage.locations import Location, plain_file

METRICS = ("backward_transfer", "forgetting")


def find_folders(names: Sequence[str], storage: str | Location) -> list[Location]:
    """Return the run folders that the names mean, each once; of a search, those of its points. Raises RunFolderError."""
    found: list[Location] = []
    for name in names:
        searched = resolve_search(name, storage)
        roots = (
            [resolve_run(name, storage)] if searched is None else [one.root for one in read_points(searched)]
        )
        found += [root.absolute() for root in roots]
    return list(dict.fromkeys(found))


def read_measured(root: Location) -> Measured | str:
    """Return what was measured on a run, or why it cannot be compared. Raises RunFolderError."""
    if not RunLayout(root).run_file.is_file():
        return "not begun"  # a point of a search
    run, _ = open_run(root)
    progress = training_stage(run.config).progress(run)
    if not progress.is_complete:
        return f"unfinished, {progress} are done"
    values = _values(run)
    if not values:
        return "nothing is evaluated"
    return Measured(
        name=run.name,
        source=hashlib.sha256(plain_file(run.layout.summary).read_bytes()).hexdigest(),
        method=_method(run),
        keys=dotted_keys(config_values(run.config)),
        deciding=deciding_keys(run.config),
        values=values,
    )


def _values(run: Run) -> dict[Cell, float]:
    facts = run.store.facts()
    found = {
        Cell(one.key, one.method, one.k, "accuracy"): one.metrics["accuracy"]
        for one in read_results(run, facts).ascending()
    }
    for key, matrix in accuracy_matrices(run, facts).items():
        scenario = matrix.scenario if key.num_batches is None else f"{matrix.scenario}-b{key.num_batches}"
        for metric in METRICS:
            value = getattr(matrix.metrics, metric)
            if not math.isnan(value):
                found[Cell(scenario, matrix.method, matrix.ks[-1], metric, matrix.ks)] = value
    return found


def _method(run: Run) -> str:
    baseline = run.config.baseline
    if baseline is None:
        return "supermasks"
    if baseline.import_path is not None:
        return baseline.import_path.rpartition(":")[2]
    return baseline.kind.replace("_", " ") + (", random weights" if baseline.random_weights else "")


def misfit(run: Measured, first: Measured, by: Sequence[str]) -> str | None:
    """Return in which keys the benchmark of a run is another one than that of the first, None if in none."""
    keys = sorted(run.deciding.keys() | first.deciding.keys())
    wrong = [
        f"{key} is {run.keys.get(key)}, not {first.keys.get(key)}"
        for key in keys
        if key.startswith("benchmark.") and key not in by and run.keys.get(key) != first.keys.get(key)
    ]
    return f"another benchmark: {', '.join(wrong)}" if wrong else None


def chosen(run: Measured, scenarios: Sequence[str], ks: Sequence[int]) -> Measured:
    """Return a run with these scenarios and k alone; none named are all."""
    values = {
        cell: value
        for cell, value in run.values.items()
        if (not scenarios or any(_is_named(cell, name) for name in scenarios)) and (not ks or cell.k in ks)
    }
    return replace(run, values=values)


def check_scenarios(runs: Sequence[Measured], scenarios: Sequence[str]) -> None:
    """Raise ConfigError for a scenario that no run was measured in."""
    cells = {cell for run in runs for cell in run.values}
    for name in scenarios:
        if not any(_is_named(cell, name) for cell in cells):
            known = sorted({cell.scenario for cell in cells})
            raise ConfigError(f"--scenario: found {name!r}, expected one of {', '.join(known) or 'none'}")


def _is_named(cell: Cell, name: str) -> bool:
    """Return whether a name means a cell's scenario, with or without its number of test batches."""
    return name in (cell.scenario, cell.scenario.partition("-")[0])
