"""Writes verdicts as JSON and Markdown: what was measured, from which runs, and how to repeat it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from orchestrator.report.text import duration
from orchestrator.reproduce.reproduce import TargetResult
from orchestrator.reproduce.targets import Target
from orchestrator.reproduce.verdict import judge
from orchestrator.runs.commands import supsup_command
from storage.files import commit_json, commit_text
from storage.locations import Location

HEADS = (
    "target",
    "experiment",
    "published",
    "accuracy",
    "right task",
    "distinct deciding images",
    "verdict",
    "seeds",
    "wall time",
    "command",
)
VERSIONS = ("supsup", "torch", "numpy", "pyarrow", "ray", "mlflow", "python")


def write_result(folder: Location, result: TargetResult) -> None:
    """Commit ``<target>.json``."""
    commit_json(folder / f"{result.target.name}.json", result_values(result))


def unrun_values(target: Target) -> dict[str, Any]:
    """Return the values of a target of which nothing was run."""
    nothing = TargetResult(target=target, settings=(), verdict=judge(target, []), facts=(), measurements=())
    return result_values(nothing)


def write_page(folder: Location, values: Sequence[dict[str, Any]]) -> None:
    """Commit ``verdicts.md``. values: from ``result_values``, one for each target."""
    parts = ["# Verdicts", verdict_table(values), *(target_section(one) for one in values)]
    commit_text(folder / "verdicts.md", "\n\n".join(parts) + "\n")


def read_results(folder: Location, targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Return the values that ``write_result`` wrote; a target that was never run says so."""
    paths = {target.name: folder / f"{target.name}.json" for target in targets}
    return [
        json.loads(paths[target.name].read_text()) if paths[target.name].exists() else unrun_values(target)
        for target in targets
    ]


def result_values(result: TargetResult) -> dict[str, Any]:
    """Return a result as plain values: claim, verdict, settings, seeds, spread, versions, times."""
    target = result.target
    return {
        "target": target.name,
        "title": target.title,
        "claim": target.claim,
        "place": target.place,
        "published_percent": target.number.percent if target.number else None,
        "differs": target.differs,
        "criteria": [asdict(one) for one in target.criteria],
        "settings": list(result.settings),
        "verdict": result.verdict.words,
        **asdict(result.verdict.shown),
        "judged": [asdict(one) for one in result.verdict.judged],
        "runs": [asdict(one) for one in result.facts],
        "wall_s": sum(one.wall_s for one in result.facts),
        "command": supsup_command("reproduce", target.name, *result.settings),
    }


def verdict_table(values: Sequence[dict[str, Any]]) -> str:
    """Return the verdicts as a Markdown table."""
    rows = [_row(one) for one in values]
    lines = ["| " + " | ".join(HEADS) + " |", "| " + " | ".join("---" for _ in HEADS) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def target_section(one: dict[str, Any]) -> str:
    """Return the section about one target, as Markdown."""
    lines = [f"## {one['target']}: {one['title']}", "", f"Published: {one['claim']} ({one['place']})."]
    lines += ["", f"**{_sentence(one['verdict'])}**", ""]
    marks = {True: "yes", False: "no", None: "not measured"}
    lines += [f"- {judged['words']}: {marks[judged['holds']]}" for judged in one["judged"]]
    lines += ["", f"Differences from the original: {one['differs']}"]
    if one["runs"]:
        lines += ["", *_run_lines(one["runs"])]
    return "\n".join(lines)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    seeds = {run["seed"] for run in one["runs"]}
    published = "figure only" if one["published_percent"] is None else f"{one['published_percent']} %"
    return (
        one["target"],
        one["title"],
        published,
        one["accuracy"],
        one["right_task"],
        one["num_deciding_images"],
        one["verdict"],
        str(len(seeds)) if seeds else "-",
        duration(one["wall_s"]) if one["runs"] else "-",
        f"`{one['command']}`",
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _run_lines(runs: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| run | tasks | wall time | tasks an hour | sessions | cut short | masks, sha256 |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    lines += [
        f"| {run['run']}, seed {run['seed']} (`{run['folder']}`) | {run['num_tasks']} | {duration(run['wall_s'])} "
        f"| {_rate(run)} | {run['num_sessions'] or '-'} | {run['num_cut_short']} "
        f"| {run['masks_sha256'][:12] or '-'} |"
        for run in runs
    ]
    made = dict.fromkeys(_made(run) for run in runs)
    return [*lines, "", *(f"Made with {words}." for words in made)]


def _rate(run: dict[str, Any]) -> str:
    """Return the tasks per hour of training, tests included."""
    return f"{3600 * run['num_tasks'] / run['train_wall_s']:,.0f}" if run.get("train_wall_s") else "-"


def _made(run: dict[str, Any]) -> str:
    known = run["provenance"]
    day = datetime.fromtimestamp(run["last_s"], UTC).date().isoformat()
    versions = ", ".join(f"{name} {known[name]}" for name in VERSIONS if known.get(name))
    cores = f", {known['cores']} cores" if "cores" in known else ""  # missing from older versions
    return f"{versions}, on {known.get('processor')}{cores}, {day}"
