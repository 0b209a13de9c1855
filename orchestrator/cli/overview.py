"""What a run came to, in one table, and what to do next; the same as JSON for machines."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console

from core.errors import first_line
from orchestrator.evaluate import EvaluationResult
from orchestrator.execution.controller import Failure
from orchestrator.execution.progress import duration
from orchestrator.report.tables import byte_words, percent, say
from orchestrator.runs.run import Run
from orchestrator.status import RunStatus
from orchestrator.sweep import SweepResult
from storage.baseline_state import num_learned
from storage.locations import AnyPath, ObjectPath
from storage.mask_info import MaskFacts

NUM_NEXT = 3
KEY_WIDTH = 12


def print_overview(console: Console, result: SweepResult) -> None:
    """Print a table of what there is now, and the next three commands worth trying."""
    for key, value in _rows(result):  # paths are for copying: never cut
        say(console, f"{key:<{KEY_WIDTH}}{value}")
    say(console, "next:")
    for command, what in next_commands(result.run, result.failures)[:NUM_NEXT]:
        say(console, f"  {command}")
        say(console, f"      {what}")


def _rows(result: SweepResult) -> list[tuple[str, str]]:
    run, facts, num_trained, failures = result.run, result.facts, result.num_trained, result.failures
    what = "tasks" if run.config.training.is_given else "masks"
    now = f"trained {num_trained} {what}" if num_trained else "trained nothing"
    num_there = len(facts) if run.config.baseline is None else num_learned(run.layout)
    done = f"{num_there} {what} are there; {now} in {duration(result.elapsed_s)}"
    rows = [("done", f"{done}, {len(failures)} jobs failed" if failures else done)]
    if facts:
        worst = min(facts, key=lambda one: one.test_accuracy)
        accuracy = percent(mean(one.test_accuracy for one in facts))
        rows += [
            (
                "accuracy",
                f"{accuracy} with the task given; the worst, {worst.task}: {percent(worst.test_accuracy)}",
            ),
            ("density", f"{mean(one.density for one in facts):.3g} of the weights kept"),
            ("stored", _stored(run, facts)),
        ]
    rows.append(("run folder", short(run.layout.root)))
    page = run.layout.report / "report.html"
    if page.exists():
        rows.append(("report", short(page)))
    return rows


def _stored(run: Run, facts: Sequence[MaskFacts]) -> str:
    sizes = [one.num_bytes for one in facts]
    norms = mean(one.num_norm_bytes for one in facts)
    beside = f", and {byte_words(norms)} of running statistics" if run.identity.network.get("norms") else ""
    return f"{byte_words(sum(sizes))} of masks, {byte_words(mean(sizes))} each{beside}"


def next_commands(run: Run, failures: Sequence[Failure]) -> list[tuple[str, str]]:
    """Return commands and what each does, the most useful first."""
    name, config = short(run.layout.root), run.config
    commands = []
    if failures:
        commands.append((f"supsup logs {name}", "why tasks failed; the same run command tries them again"))
    if config.tracking.uri:
        commands.append((f"supsup ui {name}", "browse it: every task, its curves, the figures"))
    if config.baseline is not None:
        return [*commands, (f"supsup report {name}", "its figures")]
    if config.training.is_given and not config.network.masks_outputs:
        if config.evaluation.inferred_scenarios:
            commands += [
                (
                    f"supsup evaluate {name} evaluation.inference.algorithm=exhaustive",
                    "find the task another way, on the same masks",
                ),
                (f"supsup export {name} --mlflow", "a model that takes images and answers over HTTP"),
            ]
        else:
            commands.append((f"supsup evaluate {name}", "find the task of each image, on the same masks"))
    commands += [
        (f"supsup verify {name}", "check every mask"),
        (f"supsup export {name} --out exported", "the masks as safetensors files"),
    ]
    return commands


def result_json(result: SweepResult | EvaluationResult) -> str:
    """Return what a run or an evaluation came to, as indented JSON. Fractions in [0, 1], seconds."""
    run = result.run
    failed = [
        {"job": str(failure.job), "attempts": failure.num_attempts, "error": first_line(failure.error)}
        for failure in result.failures
    ]
    content = {
        "run": run.name,
        "folder": str(run.layout.root),
        "fingerprint": run.fingerprint,
        "num_tasks": run.config.benchmark.num_tasks,
        "num_trained": result.num_trained,
        "failures": failed,
        "measured": result.measured,
        "elapsed_s": round(result.elapsed_s, 3),
    }
    return json.dumps(content, indent=2)


def status_json(found: Sequence[RunStatus]) -> str:
    """Return how far runs are, as indented JSON."""
    rows: list[dict[str, Any]] = [
        {
            "run": one.run.name,
            "folder": str(one.run.layout.root),
            "state": one.state,
            "unit": one.unit.strip() or "tasks",
            "num_tasks": one.num_tasks,
            "num_done": one.num_done,
            "num_failed": one.num_failed,
            "num_left": one.num_left,
            "mean_accuracy": one.mean_accuracy,
            "tasks_per_min": one.tasks_per_min,
            "eta_s": one.eta_s,
            "num_workers": one.num_workers,
            "error": one.error,
        }
        for one in found
    ]
    return json.dumps(rows, indent=2)


def short(path: AnyPath) -> str:
    """Return a path as people type it: from here where it is below."""
    if isinstance(path, ObjectPath):
        return str(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
