"""What a target came to, in words that claim no more than was measured. Pure."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import mean, stdev
from typing import Any

from orchestrator.report.text import duration, percent
from orchestrator.reproduce.measure import Point, values_at
from orchestrator.reproduce.reproduce import Outcome
from orchestrator.reproduce.targets import Above, AtLeast, Criterion, Near, NoDrop, Target
from storage.files import commit_json, commit_text
from storage.locations import AnyPath

FIGURE_ONLY = "matches the claim; the paper gives this as a figure only"
NOT_REPRODUCED = "not reproduced"
HEADS = ("target", "experiment", "published", "measured", "verdict", "seeds", "wall time", "command")
VERSIONS = ("supsup", "torch", "numpy", "pyarrow", "ray", "mlflow", "python")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One criterion. words: what was asked and measured. holds: None where it was not measured."""

    words: str
    holds: bool | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a target came to. figure: the measured value beside the paper's number, as words."""

    words: str
    figure: str
    judged: tuple[Judged, ...]


def judge(target: Target, points: Sequence[Point], departures: Sequence[str] = ()) -> Verdict:
    """Judge a target. departures: settings that made less of it (``targets.departures``)."""
    judged = tuple(_judge(criterion, points) for criterion in target.criteria)
    first = target.criteria[0]
    figure = _measured(values_at(points, first.run, first.metric, _k(first)))
    open_ones = [one.words for one in judged if one.holds is None]
    if open_ones:
        words = f"not judged: {open_ones[0]}" if points else "not run"
    elif not all(one.holds for one in judged):
        words = NOT_REPRODUCED
    elif target.number is None:
        words = FIGURE_ONLY
    else:
        away = abs(100 * mean(values_at(points, first.run, first.metric, _k(first))) - target.number.percent)
        words = f"within {away:.2f} points of {target.number.of} {target.number.percent} %"
    less = [*departures, *_missing_seeds(target, points)]
    if less and points:
        words += f" (with {', '.join(less)})"
    return Verdict(words=words, figure=figure, judged=judged)


def _missing_seeds(target: Target, points: Sequence[Point]) -> list[str]:
    """Say where a criterion has values of some of its run's seeds only."""
    num_seeds = {run.name: len(run.seeds) for run in target.runs}
    found = {place: len(values_at(points, *place)) for one in target.criteria for place in _places(one)}
    few = {place[0]: number for place, number in found.items() if 0 < number < num_seeds[place[0]]}
    return [f"{number} of {num_seeds[run]} seeds of {run}" for run, number in few.items()]


def _k(criterion: Criterion) -> int:
    return criterion.last if isinstance(criterion, NoDrop) else criterion.k


def _places(criterion: Criterion) -> list[tuple[str, str, int]]:
    """Return the (run, metric, k) that a criterion compares, in order."""
    at = [(criterion.run, criterion.metric, _k(criterion))]
    if isinstance(criterion, NoDrop):
        at.insert(0, (criterion.run, criterion.metric, criterion.first))
    if isinstance(criterion, Above):
        at.append((criterion.than, criterion.than_metric or criterion.metric, criterion.k))
    return at


def _judge(criterion: Criterion, points: Sequence[Point]) -> Judged:
    what = f"{criterion.run}: {criterion.metric}"
    at = _places(criterion)
    found = [values_at(points, *place) for place in at]
    for place, values in zip(at, found, strict=True):
        if not values:
            run, metric, k = place
            return Judged(words=f"{run}: {metric} was not measured at k = {k}", holds=None)
    means = [100 * mean(values) for values in found]
    return _compare(criterion, what, means, _measured(found[-1 if isinstance(criterion, NoDrop) else 0]))


def _compare(criterion: Criterion, what: str, means: Sequence[float], shown: str) -> Judged:
    """Compare means over seeds, in percent, in the order of ``_judge``."""
    match criterion:
        case Near(percent=wanted, within_points=points, k=k):
            words = f"{what} at k = {k}: {shown}, wanted {wanted} % within {points:g} points"
            return Judged(words=words, holds=abs(means[0] - wanted) <= points)
        case AtLeast(percent=wanted, k=k):
            words = f"{what} at k = {k}: {shown}, wanted at least {wanted:g} %"
            return Judged(words=words, holds=means[0] >= wanted)
        case NoDrop(first=first, last=last, within_points=points):
            words = f"{what}: {shown} at k = {last}, {means[0]:.2f} % at k = {first}, wanted a drop of at most {points:g}"
            return Judged(words=words, holds=means[0] - means[1] <= points)
        case Above(than=than, than_metric=metric, by_points=points, k=k):
            other = f"{than}{f' ({metric})' if metric else ''}"
            by = f" by at least {points:g} points" if points else ""
            words = f"{what} at k = {k}: {shown}, wanted above {other}{by}, {means[1]:.2f} %"
            return Judged(words=words, holds=means[0] > means[1] and means[0] - means[1] >= points)


def _measured(values: Sequence[float]) -> str:
    """Return the mean over seeds, and their standard deviation, as words."""
    if not values:
        return "-"
    if len(values) == 1:
        return percent(values[0])
    return f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f} %"


def write_outcome(folder: AnyPath, outcome: Outcome) -> None:
    """Commit ``<target>.json``."""
    commit_json(folder / f"{outcome.target.name}.json", outcome_values(outcome))


def write_page(folder: AnyPath, values: Sequence[dict[str, Any]]) -> None:
    """Commit ``verdicts.md`` of some targets. values: as of ``outcome_values``."""
    parts = ["# Verdicts", verdict_table(values), *(target_section(one) for one in values)]
    commit_text(folder / "verdicts.md", "\n\n".join(parts) + "\n")


def read_outcomes(folder: AnyPath, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the values that ``write_outcome`` wrote; targets that are not there are left out."""
    found = []
    for name in names:
        path = folder / f"{name}.json"
        if path.exists():
            found.append(json.loads(path.read_text()))
    return found


def outcome_values(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values: claim, verdict, configs, seeds, spread, versions, times."""
    target = outcome.target
    return {
        "target": target.name,
        "title": target.title,
        "claim": target.claim,
        "place": target.place,
        "published_percent": target.number.percent if target.number else None,
        "differs": target.differs,
        "criteria": [asdict(one) for one in target.criteria],
        "settings": list(outcome.settings),
        "verdict": outcome.verdict.words,
        "measured": outcome.verdict.figure,
        "judged": [asdict(one) for one in outcome.verdict.judged],
        "runs": [asdict(one) for one in outcome.facts],
        "wall_s": sum(one.wall_s for one in outcome.facts),
        "command": " ".join(["supsup reproduce", target.name, *outcome.settings]),
    }


def verdict_table(values: Sequence[dict[str, Any]]) -> str:
    """Return the verdicts as a Markdown table."""
    rows = [_row(one) for one in values]
    lines = ["| " + " | ".join(HEADS) + " |", "| " + " | ".join("---" for _ in HEADS) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def target_section(one: dict[str, Any]) -> str:
    """Return what is to be said of one target, as Markdown."""
    lines = [f"## {one['target']}: {one['title']}", "", f"Published: {one['claim']} ({one['place']})."]
    lines += ["", f"**{_sentence(one['verdict'])}**", ""]
    marks = {True: "yes", False: "no", None: "not measured"}
    lines += [f"- {judged['words']}: {marks[judged['holds']]}" for judged in one["judged"]]
    lines += ["", f"Other than in the original: {one['differs']}"]
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
        one["measured"],
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
    """Return how many tasks were trained in an hour of training, their tests included."""
    return f"{3600 * run['num_tasks'] / run['train_wall_s']:,.0f}" if run.get("train_wall_s") else "-"


def _made(run: dict[str, Any]) -> str:
    known = run["provenance"]
    day = datetime.fromtimestamp(run["last_s"], UTC).date().isoformat()
    versions = ", ".join(f"{name} {known[name]}" for name in VERSIONS if known.get(name))
    cores = f", {known['cores']} cores" if "cores" in known else ""  # not noted by older versions
    return f"{versions}, on {known.get('processor')}{cores}, {day}"
