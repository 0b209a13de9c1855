"""The promises of a method to compare with: it learns the same again, from where it was stopped, in any process."""

import torch

from core.baselines.make import make_method
from core.baselines.method import Method, Values, correct_images, learn_task
from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.errors import ConfigError
from core.own_code.guard import user_code
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import NetworkSpec
from core.specs.run import BaselineSpec, RunSpec
from core.specs.training import OptimizerSpec, TrainingSpec
from orchestrator.checks import CheckOptions

NUM_TASKS = 3


def check_method(name: str, options: CheckOptions) -> list[str]:
    """Check a method on three small tasks. name: as in ``baseline.import_path``. Raises ConfigError."""
    del options
    baseline = BaselineSpec(kind="module", import_path=name)
    problem = Problem(_spec(baseline), load_dataset("synthetic"))
    code = baseline.own_code
    assert code is not None, "the spec requires it"
    method = make_method("module", problem)
    with user_code(f"{code} failed", "expected a core.baselines.method.Method"):
        first = _learn(problem, method, range(NUM_TASKS), {})
        again = _learn(problem, make_method("module", problem), range(NUM_TASKS), {})
        half = _learn(problem, method, range(1), {})
        resumed = _learn(problem, make_method("module", problem), range(1, NUM_TASKS), half)
        accuracy = sum(
            float(correct_images(problem, method, first, task).mean()) for task in range(NUM_TASKS)
        )
    _same(name, first, again, "when it learned the same tasks again")
    _same(
        name,
        first,
        resumed,
        "when another object went on after the first task, as after a crash: keep all in values",
    )
    return [
        f"{len(first)} values after {NUM_TASKS} tasks, the same again and when resumed",
        f"accuracy on {NUM_TASKS} small tasks after a few steps: {accuracy / NUM_TASKS:.1%}",
    ]


def _spec(baseline: BaselineSpec) -> RunSpec:
    return RunSpec(
        seed=0,
        benchmark=BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=NUM_TASKS),
        network=NetworkSpec(kind="conv4", outputs=4),
        training=TrainingSpec(steps=6, batch_size=16, optimizer=OptimizerSpec(kind="adam", lr=1e-3)),
        baseline=baseline,
    )


def _learn(problem: Problem, method: Method, tasks: range, values: Values) -> Values:
    """Return the values after ``tasks``, learned from copies of ``values``."""
    found = {name: value.clone() for name, value in values.items()}
    for task in tasks:
        learn_task(problem, method, found, task)
    return {name: value.clone() for name, value in found.items()}


def _same(name: str, first: Values, other: Values, when: str) -> None:
    wrong = [
        key
        for key in sorted(first.keys() | other.keys())
        if key not in first or key not in other or not torch.equal(first[key], other[key])
    ]
    if wrong:
        raise ConfigError(
            f"{name}: value {wrong[0]} is another one {when}; draw random numbers from the sweep's seed (new_weights)"
        )
