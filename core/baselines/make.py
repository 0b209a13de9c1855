"""From a baseline's name to its method."""

from collections.abc import Callable

from core.baselines.batch_ensemble import BatchEnsemble
from core.baselines.method import Method, Setting
from core.baselines.psp import ParameterSuperposition
from core.baselines.separate_heads import LowerBound, SeparateHeads, UpperBound
from core.specs.run import BaselineKind


def make_method(kind: BaselineKind, setting: Setting) -> Method:
    """Return the method of this name."""
    methods: dict[BaselineKind, Callable[[Setting], Method]] = {
        "batch_ensemble": BatchEnsemble,
        "psp": ParameterSuperposition,
        "separate_heads": SeparateHeads,
        "upper_bound": UpperBound,
        "lower_bound": LowerBound,
    }
    return methods[kind](setting)
