"""The registry of baselines."""

from collections.abc import Callable

from core.baselines.batch_ensemble import BatchEnsemble
from core.baselines.method import Method
from core.baselines.psp import ParameterSuperposition
from core.baselines.separate_heads import LowerBound, SeparateHeads, UpperBound
from core.batches.problem import Problem
from core.errors import ConfigError
from core.own_code.guard import user_code
from core.own_code.imports import find_code
from core.own_code.torch_settings import same_settings
from core.specs.run import BaselineKind

PROMISES = ("begin", "trained", "weights", "courses", "statistics", "lr")


def make_method(kind: BaselineKind, problem: Problem) -> Method:
    """Return the method of a kind of baseline."""
    methods: dict[BaselineKind, Callable[[Problem], Method]] = {
        "batch_ensemble": BatchEnsemble,
        "psp": ParameterSuperposition,
        "separate_heads": SeparateHeads,
        "upper_bound": UpperBound,
        "lower_bound": LowerBound,
        "module": _own_method,
    }
    return methods[kind](problem)


def _own_method(problem: Problem) -> Method:
    """Return the method that the user's own code makes. Raises ConfigError."""
    code = None if problem.spec.baseline is None else problem.spec.baseline.own_code
    assert code is not None, "the spec requires it"
    with same_settings(code):
        make = find_code(code)
        with user_code(f"{code} failed", "expected a function or class of (problem)"):
            found: Method = make(problem)
    absent = [name for name in PROMISES if not callable(getattr(found, name, None))]
    if absent:
        raise ConfigError(
            f"{code} gave a {type(found).__name__} without {', '.join(absent)}, expected a core.baselines.method.Method; "
            "core.baselines.method.Plain has defaults"
        )
    return found
