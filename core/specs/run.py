"""The specification of a run, and of a baseline in place of supermasks; checked once, when built.

Everything in a ``RunSpec`` except ``BenchmarkSpec.num_tasks`` decides the bits of the masks. No
numpy and no torch, so that a process can plan a run without loading them.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from core.specs.base import Spec, require
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import TRAITS, MaskSpec, NetworkSpec
from core.specs.own_code import METHODS, OwnCode, code_path
from core.specs.training import TrainingSpec

BaselineKind = Literal["batch_ensemble", "psp", "separate_heads", "upper_bound", "lower_bound", "module"]


@dataclass(frozen=True, kw_only=True)
class BaselineSpec(Spec):
    """A method to compare supermasks with (``core.baselines``), trained instead of them.

    kind: one of the methods that the paper compares with, or a ``module`` of your own.
    import_path: ``package.file:name``, or an entry point ``supsup.methods``, of a function or class that makes the method
        (``module``).
    random_weights: whether the trunk stays random and is never trained (``batch_ensemble``, where the paper
        calls it Rand W, and ``separate_heads``).
    first_lr: learning rate of the trunk, which is trained with the first task. None: the rate of every task.
    """

    kind: BaselineKind
    random_weights: bool = False
    first_lr: float | None = None
    import_path: str | None = None

    def __post_init__(self) -> None:
        path, is_own = self.import_path, self.kind == "module"
        ok = code_path(path or "", METHODS) is not None if is_own else path is None
        expected = "package.file:name of a function or class" if is_own else "null: for kind 'module' only"
        require(ok, "baseline.import_path", path, expected)
        shared = self.kind in ("batch_ensemble", "separate_heads")
        ok = shared or not self.random_weights
        require(ok, "baseline.random_weights", self.random_weights, f"false for {self.kind!r}")
        ok = self.first_lr is None or (shared and math.isfinite(self.first_lr) and self.first_lr > 0)
        require(ok, "baseline.first_lr", self.first_lr, f"null for {self.kind!r}, or a number > 0")

    @property
    def own_code(self) -> OwnCode | None:
        """The user's own method, if it is one."""
        path = code_path(self.import_path, METHODS)
        return None if path is None else OwnCode("baseline.import_path", path)


@dataclass(frozen=True, kw_only=True)
class RunSpec(Spec):
    """Everything that decides the masks of a run; ``num_tasks`` decides only how many there are."""

    seed: int
    benchmark: BenchmarkSpec
    network: NetworkSpec
    mask: MaskSpec = field(default_factory=MaskSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    baseline: BaselineSpec | None = None

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "seed", self.seed, "a number from 0 to 2**63 - 1")
        if self.benchmark.is_settled:
            self._check_outputs()
        self._check_network()
        self._check_rule()

    @property
    def own_code(self) -> tuple[OwnCode, ...]:
        """The user's own code that the run needs."""
        return (*self.benchmark.own_code, *self.worker_code)

    @property
    def worker_code(self) -> tuple[OwnCode, ...]:
        """The part of it that workers import; data are made before."""
        method = None if self.baseline is None else self.baseline.own_code
        return tuple(code for code in (self.network.own_code, method) if code is not None)

    def _check_outputs(self) -> None:
        classes, found = self.benchmark.real_classes, self.network.outputs
        whose = "a task" if self.benchmark.labels == "local" else self.benchmark.dataset
        require(found >= classes, "network.outputs", found, f"at least {classes}, the classes of {whose}")

    def _check_network(self) -> None:
        training, kind, traits = self.training, self.network.kind, self.network.traits
        ok = training.is_given or traits.streams
        require(ok, "training.task_identity", "none", f"given for network {kind!r}")
        found = training.matmul if training.is_float32 else "bfloat16"
        require(found in traits.products, "training.matmul", found, f"float32 throughout for {kind!r}")
        ok = training.epochs is None or traits.epochs or self.baseline is not None
        require(ok, "training.epochs", training.epochs, f"null: network {kind!r} takes training.steps")

    def _check_rule(self) -> None:
        traits, training, kind = self.network.traits, self.training, self.network.kind
        whole = traits.whole_images or self.baseline is not None
        if self.benchmark.is_coloured or self.benchmark.labels == "local":
            kinds = ", ".join(name for name, other in TRAITS.items() if other.whole_images)
            require(whole, "network.kind", kind, f"one of {kinds}, for natural images and local labels")
        ok = training.schedule is None or whole
        require(ok, "training.schedule", "keys", f"null for network {kind!r}")
        ok = self.mask.rule == "threshold" or traits.top_k
        require(ok, "mask.rule", self.mask.rule, f"'threshold' for network {kind!r}")
        ok = self.mask.rule == "threshold" or training.is_given
        require(ok, "mask.rule", self.mask.rule, "'threshold' for task_identity: none")
        ok = training.transfer == "none" or (traits.transfers and self.baseline is None)
        require(ok, "training.transfer", training.transfer, "'none' for a baseline, or masks on outputs")
