"""Tables made from a run folder: evaluation files, the summary, the task table."""

import json
from typing import Any

import pyarrow.parquet as pq

from orchestrator.config.load import sweep_yaml
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import Run
from storage.decisions import Rows, read_decisions
from storage.files import commit, commit_json, commit_text

# summary.json: scenario -> k -> metrics for GG, scenario -> way of inference -> k -> metrics else.
Measured = dict[str, Any]


def write_report(run: Run, measured: Measured) -> None:
    """Write summary.json (keeping what was there), tasks.parquet and config.yaml."""
    layout = run.layout
    commit_json(layout.summary, _merged(read_summary(run), measured))
    facts = run.store.info_table()
    if len(facts) or not layout.tasks.exists():  # masks may have been thrown away; what was known stays
        commit(layout.tasks, lambda path: pq.write_table(facts, path, compression="zstd"))
    commit_text(layout.config, sweep_yaml(run.config))


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
            prefix = name if label in ("", own.evaluation.method.label) else f"{name}/{label}"
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


def finished_log(run: Run) -> Rows | None:
    """Return the log of a stream that has ended, None before that. Raises DamagedFileError."""
    rows, is_complete = read_decisions(run.layout, run.fingerprint)
    return rows if is_complete else None
