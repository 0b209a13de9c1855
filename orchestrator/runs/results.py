"""Tables made from a run folder: evaluation files, the summary, the task table."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf

from core.errors import DamagedFileError
from orchestrator.config.sweep import SweepConfig, config_values
from orchestrator.given_tables import Counts, given_metadata, given_table
from orchestrator.runs.run import Run
from storage.files import commit, commit_json, commit_text
from storage.locations import AnyPath, listed
from storage.tables import read_evaluation, task_accuracies, write_evaluation

# summary.json: scenario -> k -> metrics for GG, scenario -> way of inference -> k -> metrics else.
Measured = dict[str, Any]


def stored_counts(run: Run) -> dict[int, tuple[int, ...]]:
    """Collect what the evaluation files already say of scenario GG."""
    counts: dict[int, tuple[int, ...]] = {}
    for path in listed(run.layout.evaluations, "GG-*.parquet"):
        if run.layout.evaluation("GG", _k_of(path), test_batches(run)) != path:
            continue
        try:
            counts |= _counts_by_task(read_evaluation(path, run.fingerprint))
        except DamagedFileError:
            continue  # made again from the masks
    return counts


def write_evaluations(run: Run, counts: Counts, num_test_images: Mapping[int, int]) -> dict[int, float]:
    """Write GG-<k>.parquet for each k whose first k tasks are all counted; return accuracy by k.

    num_test_images: images in each task's test set.
    """
    accuracies = {}
    for k in run.config.evaluation.points(run.config.benchmark.num_tasks):
        if any(task not in counts for task in range(k)):
            continue
        table = given_table(k, counts, num_test_images)
        path = run.layout.evaluation("GG", k, test_batches(run))
        if not _is_current(path, run.fingerprint, table):
            write_evaluation(path, table, given_metadata(k, run.fingerprint, run.config.evaluation.batches))
        accuracies[k] = float(np.mean(list(task_accuracies(table).values())))
    return accuracies


def write_report(run: Run, measured: Measured) -> None:
    """Write summary.json (keeping what was there), tasks.parquet and config.yaml."""
    layout = run.layout
    commit_json(layout.summary, _merged(read_summary(run), measured))
    facts = run.store.facts()
    if len(facts) or not layout.tasks.exists():  # masks may have been thrown away; what was known stays
        commit(layout.tasks, lambda path: pq.write_table(facts, path, compression="zstd"))
    commit_text(layout.config, sweep_yaml(run))


def sweep_yaml(run: Run) -> str:
    """Return the resolved sweep file."""
    return OmegaConf.to_yaml(OmegaConf.create(config_values(run.config)))


def scenario_key(run: Run, scenario: str) -> str:
    """Return the name of a scenario in summary.json: with -bN where only N batches were used."""
    return "-".join(filter(None, (scenario, own_batches(run.config))))


def metrics_by_k(measured: Measured, own: SweepConfig) -> tuple[tuple[str, int, float], ...]:
    """Return (key, k, value) for MLflow.

    own: the sweep as the run was made, whose keys are short (GNu/accuracy); those of another way of
    inference or number of test batches name it (GNu/one_shot-H-1/accuracy, GG-b10/accuracy).
    """
    found = []
    for key, by_label in measured.items():
        scenario, _, batches = key.partition("-")
        name = scenario if batches == own_batches(own) else f"{scenario}-{batches or 'all'}"
        for label, by_k in ({"": by_label} if scenario == "GG" else by_label).items():
            prefix = name if label in ("", own.evaluation.way.label) else f"{name}/{label}"
            found += [(f"{prefix}/{m}", int(k), v) for k, values in by_k.items() for m, v in values.items()]
    return tuple(found)


def own_batches(config: SweepConfig) -> str:
    """Return what follows a scenario's name in summary.json: b10 where ten test batches count, or nothing."""
    return "" if config.evaluation.batches == "all" else f"b{config.evaluation.batches}"


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return ``old`` with ``new`` laid over it, mapping by mapping."""
    both = dict(old)
    for key, value in new.items():
        was = both.get(key)
        both[key] = _merged(was, value) if isinstance(was, dict) and isinstance(value, dict) else value
    return both


def read_summary(run: Run) -> dict[str, Any]:
    """Return summary.json, or an empty mapping when there is none that can be read."""
    try:
        summary: dict[str, Any] = json.loads(run.layout.summary.read_text())
    except (OSError, ValueError):
        return {}
    return summary


def test_batches(run: Run) -> int | None:
    """Return how many test batches of each task count, None for all."""
    batches = run.config.evaluation.batches
    return None if batches == "all" else batches


def _counts_by_task(table: pa.Table) -> dict[int, tuple[int, ...]]:
    counts: dict[int, list[int]] = {}
    for task, count in zip(table["task"].to_pylist(), table["num_correct"].to_pylist(), strict=True):
        counts.setdefault(task, []).append(count)
    return {task: tuple(values) for task, values in counts.items()}


def _is_current(path: AnyPath, fingerprint: str, table: pa.Table) -> bool:
    try:
        stored = read_evaluation(path, fingerprint)
    except DamagedFileError:
        return False
    return bool(stored["num_correct"].to_pylist() == table["num_correct"].to_pylist())


def _k_of(path: AnyPath) -> int:
    digits = path.name.removesuffix(".parquet").split("-")[1]
    return int(digits) if digits.isdigit() else 0
