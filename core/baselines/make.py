"""The registry of baselines."""

from collections.abc import Callable

from core.baselines.batch_ensemble import BatchEnsemble
from core.baselines.method import Method
from core.baselines.psp import ParameterSuperposition
from core.baselines.separate_heads import LowerBound, SeparateHeads, UpperBound
from core.batches.problem import Problem
from core.specs.run import BaselineKind


def make_method(kind: BaselineKind, problem: Problem) -> Method:
    """Return the method of a kind of baseline."""
    methods: dict[BaselineKind, Callable[[Problem], Method]] = {
        "batch_ensemble": BatchEnsemble,
        "psp": ParameterSuperposition,
        "separate_heads": SeparateHeads,
        "upper_bound": UpperBound,
        "lower_bound": LowerBound,
    }
    return methods[kind](problem)
