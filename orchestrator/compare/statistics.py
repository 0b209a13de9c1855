"""Mean and spread of measured values, and paired differences with an interval; no files, no runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean and sample standard deviation (n - 1) of n values; the latter is None for a single one."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The mean of n paired differences, with a 95 % interval by Student's t; None for a single pair."""

    mean: float
    low: float | None
    high: float | None
    n: int


def summary(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and number of values, of which there is at least one."""
    return Summary(mean=mean(values), std=stdev(values) if len(values) > 1 else None, n=len(values))


def paired_difference(values: Mapping[Any, float], base: Mapping[Any, float]) -> Difference | None:
    """Return ``values`` minus ``base`` over the keys that both have, such as seeds; None if there are none."""
    differences = [values[key] - base[key] for key in values if key in base]
    if not differences:
        return None
    found = summary(differences)
    if found.std is None:
        return Difference(mean=found.mean, low=None, high=None, n=1)
    half = student_t(found.n - 1) * found.std / math.sqrt(found.n)
    return Difference(mean=found.mean, low=found.mean - half, high=found.mean + half, n=found.n)


def student_t(degrees: int) -> float:
    """Return the two-sided 95 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))
