"""Verdicts on targets, which claim no more than was measured. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from core.errors import plural
from orchestrator.report.text import percent
from orchestrator.reproduce.measure import Measurement, values_at
from orchestrator.reproduce.targets import Above, AtLeast, Criterion, Near, NoDrop, Target

FIGURE_ONLY = "matches the claim; the paper gives this as a figure only"
NOT_REPRODUCED = "not reproduced"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One criterion. words: what was wanted and measured. holds: None if it was not measured."""

    words: str
    holds: bool | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a target. figure: the measured value of the first criterion, as text."""

    words: str
    figure: str
    judged: tuple[Judged, ...]


def judge(target: Target, measurements: Sequence[Measurement], departures: Sequence[str] = ()) -> Verdict:
    """Judge a target. departures: settings that made it smaller (``orchestrator.reproduce.targets.departures``)."""
    judged = tuple(_judge(criterion, measurements) for criterion in target.criteria)
    first = target.criteria[0]
    figure = _measured(values_at(measurements, first.run, first.metric, _k(first)))
    open_ones = [one.words for one in judged if one.holds is None]
    if open_ones:
        words = f"not judged: {open_ones[0]}" if measurements else "not run"
    elif not all(one.holds for one in judged):
        words = NOT_REPRODUCED
    elif target.number is None:
        words = FIGURE_ONLY
    else:
        away = abs(
            100 * mean(values_at(measurements, first.run, first.metric, _k(first))) - target.number.percent
        )
        words = f"within {away:.2f} points of {target.number.of} {target.number.percent} %"
    less = [*departures, *_missing_seeds(target, measurements)]
    if less and measurements:
        words += f" (with {', '.join(less)})"
    return Verdict(words=words, figure=figure, judged=judged)


def _missing_seeds(target: Target, measurements: Sequence[Measurement]) -> list[str]:
    """Return, as text, how many seeds of a run were measured, for runs with some missing."""
    num_seeds = {run.name: len(run.seeds) for run in target.runs}
    found = {at: len(values_at(measurements, *at)) for one in target.criteria for at in _operands(one)}
    few = {at[0]: number for at, number in found.items() if 0 < number < num_seeds[at[0]]}
    return [f"{number} of {plural(num_seeds[run], 'seed')} of {run}" for run, number in few.items()]


def _k(criterion: Criterion) -> int:
    return criterion.last if isinstance(criterion, NoDrop) else criterion.k


def _operands(criterion: Criterion) -> list[tuple[str, str, int]]:
    """Return each (run, metric, k) that a criterion compares, in order."""
    operands = [(criterion.run, criterion.metric, _k(criterion))]
    if isinstance(criterion, NoDrop):
        operands.insert(0, (criterion.run, criterion.metric, criterion.first))
    if isinstance(criterion, Above):
        operands.append((criterion.than, criterion.than_metric or criterion.metric, criterion.k))
    return operands


def _judge(criterion: Criterion, measurements: Sequence[Measurement]) -> Judged:
    what = f"{criterion.run}: {criterion.metric}"
    operands = _operands(criterion)
    found = [values_at(measurements, *operand) for operand in operands]
    for (run, metric, k), values in zip(operands, found, strict=True):
        if not values:
            return Judged(words=f"{run}: {metric} was not measured at k = {k}", holds=None)
    means = [100 * mean(values) for values in found]
    return _compare(criterion, what, means, _measured(found[-1 if isinstance(criterion, NoDrop) else 0]))


def _compare(criterion: Criterion, what: str, means: Sequence[float], shown: str) -> Judged:
    """Compare means over seeds, in percent, in the order of ``_operands``."""
    match criterion:
        case Near(percent=wanted, within_points=margin, k=k):
            words = f"{what} at k = {k}: {shown}, wanted {wanted} % within {margin:g} points"
            return Judged(words=words, holds=abs(means[0] - wanted) <= margin)
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


def _measured(values: Sequence[float]) -> str:
    """Return the mean over seeds with its standard deviation, as text."""
    if not values:
        return "-"
    if len(values) == 1:
        return percent(values[0])
    return f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f} %"
