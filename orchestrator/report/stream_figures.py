"""Figures of a stream without task ids and of the recovery of masks."""

from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from core.errors import DamagedFileError
from orchestrator.report.draw import COLOURS, INK, name_axes, new_figure, save
from orchestrator.runs.made_from import table_sources
from orchestrator.runs.results import finished_log, test_batches
from orchestrator.runs.run import Run
from storage.decisions import Rows
from storage.layout import TableKey
from storage.locations import Location, listed
from storage.mask_facts import MaskFacts
from storage.tables import read_evaluation, task_accuracies


def draw_stream(run: Run, facts: MaskFacts) -> list[Location]:
    """Draw ``report/stream.png`` if a stream has ended and is evaluated; return the files."""
    rows = finished_log(run)
    scored = None if rows is None else _scored(run, facts)
    if rows is None or scored is None:
        return []
    path = run.layout.report / "stream.png"
    save(_stream_figure(run, rows, scored), path)
    return [path]


def draw_recoveries(run: Run, facts: MaskFacts) -> list[Location]:
    """Draw ``report/recovery-<label>-<k>.png`` for each table of recoveries; return the files."""
    written, sources = [], table_sources(run, facts)
    for table in listed(run.layout.evaluations, "recovery-*.parquet"):
        key = TableKey.parse(table.stem.removeprefix("recovery-"))
        if key is None:
            continue
        with suppress(DamagedFileError):  # made again by the next evaluation
            steps = read_evaluation(table, run.fingerprint, sources.masks(key.k))
            path = run.layout.report / f"recovery-{key.label}-{key.k}.png"
            save(_recovery_figure(run, steps, key), path)
            written.append(path)
    return written


def _scored(run: Run, facts: MaskFacts) -> pa.Table | None:
    """Return the NNs table over all true tasks, None if it is missing or damaged."""
    evaluation = run.config.evaluation
    key = TableKey(evaluation.method.label, run.config.benchmark.num_tasks, test_batches(run))
    try:
        path = run.layout.evaluation(key.of("NNs"))
        return read_evaluation(path, run.fingerprint, table_sources(run, facts).masks(key.k))
    except DamagedFileError:
        return None


def _stream_figure(run: Run, rows: Rows, scored: pa.Table) -> Any:
    """Return a figure of the confidence of each decision, the masks chosen, and accuracy by true task."""
    rules = run.config.training.allocation
    assert rules is not None, "a run without task identity allocates"
    figure, (sure, chosen, accuracy) = new_figure(3)
    batch = np.array([row["batch"] for row in rows])
    confidence = np.array([(row["max_nu"] or np.nan) * row["num_candidates"] for row in rows])
    is_new = np.array([row["action"] in ("first", "allocate") for row in rows])
    sure.plot(batch, confidence, ".", markersize=3, color=COLOURS[0], label="continues a mask")
    sure.plot(batch[is_new], confidence[is_new], "^", markersize=4, color=COLOURS[1], label="allocates one")
    sure.axhline(1 + rules.epsilon, color=INK, linestyle="--", linewidth=1)
    sure.set_yscale("log")
    for which in (sure.yaxis.set_major_formatter, sure.yaxis.set_minor_formatter):
        which("{x:g}")
    name_axes(sure, "batch", "candidates x max(nu)", legend=True)
    task = np.array([row["true_task"] for row in rows])
    mask = np.array([np.nan if row["mask"] is None else row["mask"] for row in rows])
    chosen.plot(batch, task, drawstyle="steps-post", color=INK, alpha=0.4, label="true task")
    chosen.plot(batch, mask, ".", markersize=3, color=COLOURS[0], label="mask chosen")
    name_axes(chosen, "batch", "task or mask", legend=True)
    by_task = task_accuracies(scored)
    accuracy.plot(
        list(by_task), [100 * value for value in by_task.values()], "o", markersize=4, color=COLOURS[0]
    )
    name_axes(accuracy, "true task, in order of appearance", "NNs accuracy, %")
    figure.suptitle(run.name, fontsize=10)
    return figure


def _recovery_figure(run: Run, steps: pa.Table, key: TableKey) -> Any:
    """Return a figure of Hamming distance, energy and entropy at each step, by task."""
    figure, axes = new_figure(3)
    names = {"hamming": "bits wrong", "energy": "energy", "entropy": "entropy, nats"}
    for axis, (column, name) in zip(axes, names.items(), strict=True):
        for number, task in enumerate(sorted(set(steps["task"].to_pylist()))):
            of_task = [row for row in steps.to_pylist() if row["task"] == task and row[column] is not None]
            colour = COLOURS[number % len(COLOURS)]
            x, y = [row["step"] for row in of_task], [row[column] for row in of_task]
            axis.plot(x, y, color=colour, marker=".", markersize=3, label=f"task {task}")
        is_last = axis is axes[-1]
        name_axes(axis, "gradient step", name, legend=is_last and key.k <= len(COLOURS))
    figure.suptitle(f"{run.name}, {key.label}, k = {key.k}", fontsize=10)
    return figure
