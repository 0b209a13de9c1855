"""Verdicts on targets, which claim no more than was measured. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from core.errors import plural
from orchestrator.reproduce.figure_text import Shown, measured_text, shown
from orchestrator.reproduce.measure import Measurement, measured_ks, values_at
from orchestrator.reproduce.targets import Above, AtLeast, Criterion, Near, NoDrop, Target

FIGURE_ONLY = "matches the claim; the paper gives this as a figure only"
OUR_CRITERION = "meets our criterion for the claim; the paper gives this as a figure only"
NOT_REPRODUCED = "not reproduced"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One criterion. words: what was wanted and measured. holds: None if it was not measured.

    limit: what the verdict must add, such as from how many tasks on it holds.
    """

    words: str
    holds: bool | None
    limit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a target. shown: what was measured where the first criterion looks, as text."""

    words: str
    shown: Shown
    judged: tuple[Judged, ...]


def judge(target: Target, measurements: Sequence[Measurement], departures: Sequence[str] = ()) -> Verdict:
    """Judge a target. departures: settings that made it smaller (``orchestrator.reproduce.targets.departures``)."""
    judged = tuple(_judge(criterion, measurements) for criterion in target.criteria)
    words = _words(target, judged, measurements)
    less = [*departures, *_missing_seeds(target, measurements)]
    if less and measurements:
        words += f" (with {', '.join(less)})"
    first = target.criteria[0]
    return Verdict(
        words=words,
        shown=shown(measurements, first.run, first.metric, _last_k(first, measurements)),
        judged=judged,
    )


def _words(target: Target, judged: Sequence[Judged], measurements: Sequence[Measurement]) -> str:
    open_ones = [one.words for one in judged if one.holds is None]
    if open_ones:
        return f"not judged: {open_ones[0]}" if measurements else "not run"
    if not all(one.holds for one in judged):
        return NOT_REPRODUCED
    if target.number is None:
        words = OUR_CRITERION if any(_is_ours(criterion) for criterion in target.criteria) else FIGURE_ONLY
        limits = dict.fromkeys(one.limit for one in judged if one.limit)
        return "; ".join([words, *limits])
    first = target.criteria[0]
    found = 100 * mean(values_at(measurements, first.run, first.metric, _last_k(first, measurements)))
    away, number = found - target.number.percent, f"{target.number.of} {target.number.percent} %"
    is_better = isinstance(first, Near) and away > first.within_points
    return f"{away:.2f} points above {number}" if is_better else f"within {abs(away):.2f} points of {number}"


def _is_ours(criterion: Criterion) -> bool:
    """Return whether the claim is judged by a number that the paper does not give."""
    return not isinstance(criterion, Above) or criterion.by_points > 0


def _missing_seeds(target: Target, measurements: Sequence[Measurement]) -> list[str]:
    """Return, as text, how many seeds of a run were measured, for runs with some missing."""
    num_seeds = {run.name: len(run.seeds) for run in target.runs}
    found = {
        at: len(values_at(measurements, *at))
        for one in target.criteria
        for at in _operands(one, _last_k(one, measurements))
    }
    few = {at[0]: number for at, number in found.items() if 0 < number < num_seeds[at[0]]}
    return [f"{number} of {plural(num_seeds[run], 'seed')} of {run}" for run, number in few.items()]


def _last_k(criterion: Criterion, measurements: Sequence[Measurement]) -> int:
    """Return the largest k that a criterion looks at; 0 if it looks at every one and none was measured."""
    if isinstance(criterion, NoDrop):
        return criterion.last
    return max(_common_ks(criterion, measurements), default=0) if criterion.k == "every" else criterion.k


def _common_ks(criterion: Above, measurements: Sequence[Measurement]) -> set[int]:
    """Return each k at which both sides were measured."""
    metric = criterion.than_metric or criterion.metric
    ours = measured_ks(measurements, criterion.run, criterion.metric)
    return ours & measured_ks(measurements, criterion.than, metric)


def _operands(criterion: Criterion, k: int) -> list[tuple[str, str, int]]:
    """Return each (run, metric, k) that a criterion compares, in order."""
    operands = [(criterion.run, criterion.metric, k)]
    if isinstance(criterion, NoDrop):
        operands.insert(0, (criterion.run, criterion.metric, criterion.first))
    if isinstance(criterion, Above):
        operands.append((criterion.than, criterion.than_metric or criterion.metric, k))
    return operands


def _judge(criterion: Criterion, measurements: Sequence[Measurement]) -> Judged:
    if isinstance(criterion, Above) and criterion.k == "every":
        return _judge_every(criterion, measurements)
    return _judge_at(criterion, measurements, _last_k(criterion, measurements))


def _judge_every(criterion: Above, measurements: Sequence[Measurement]) -> Judged:
    """Compare two runs at each k that both measured; say from where on the one is above."""
    ks = sorted(_common_ks(criterion, measurements))
    if not ks:
        return _judge_at(criterion, measurements, 0)
    at = {k: _judge_at(replace(criterion, k=k), measurements, k) for k in ks}
    last_below = max((k for k in ks if not at[k].holds), default=0)
    words = "; ".join(one.words for one in at.values())
    if not last_below or last_below == ks[-1]:
        return Judged(words=words, holds=not last_below)
    start = min(k for k in ks if k > last_below)
    below = ", ".join(str(k) for k in ks if not at[k].holds)
    limit = f"above {criterion.than} from {start} tasks on, not at {below}"
    return Judged(words=words, holds=True, limit=limit)


def _judge_at(criterion: Criterion, measurements: Sequence[Measurement], k: int) -> Judged:
    what = f"{criterion.run}: {criterion.metric}"
    operands = _operands(criterion, k)
    found = [values_at(measurements, *operand) for operand in operands]
    for (run, metric, asked), values in zip(operands, found, strict=True):
        if not values:
            at = f" at k = {asked}" if asked else ""
            return Judged(words=f"{run}: {metric} was not measured{at}", holds=None)
    means = [100 * mean(values) for values in found]
    return _compare(criterion, what, means, measured_text(found[-1 if isinstance(criterion, NoDrop) else 0]))


def _compare(criterion: Criterion, what: str, means: Sequence[float], shown: str) -> Judged:
    """Compare means over seeds, in percent, in the order of ``_operands``."""
    match criterion:
        case Near(percent=wanted, within_points=margin, k=k):
            words = f"{what} at k = {k}: {shown}, wanted {wanted} % within {margin:g} points, or more"
            return Judged(words=words, holds=means[0] >= wanted - margin)
        case AtLeast(percent=wanted, k=k):
            words = f"{what} at k = {k}: {shown}, wanted at least {wanted:g} %"
            return Judged(words=words, holds=means[0] >= wanted)
        case NoDrop(first=first, last=last, within_points=margin):
            words = f"{what}: {shown} at k = {last}, {means[0]:.2f} % at k = {first}, wanted a drop of at most {margin:g}"
            return Judged(words=words, holds=means[0] - means[1] <= margin)
        case Above(than=than, than_metric=metric, by_points=margin, k=k):
            other = f"{than}{f' ({metric})' if metric else ''}"
            by = f" by at least {margin:g} points" if margin else ""
            words = f"{what} at k = {k}: {shown}, wanted above {other}{by}, {means[1]:.2f} %"
            return Judged(words=words, holds=means[0] > means[1] and means[0] - means[1] >= margin)
