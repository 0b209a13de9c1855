"""What a run means, as frozen dataclasses; checked once, when built.

Everything here except ``BenchmarkSpec.num_tasks`` decides the bits of the masks. No
numpy and no torch, so that a plan can be made where neither is loaded.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from core.errors import ConfigError

NUM_CLASSES = {"digits": 10, "mnist": 10, "fashion_mnist": 10, "synthetic": 4}
IMAGE_SHAPES = {"digits": (8, 8), "mnist": (28, 28), "fashion_mnist": (28, 28), "synthetic": (6, 6)}
HIDDEN_WIDTHS = {"lenet_300_100": (300, 100), "fc_1024_1024": (1024, 1024)}
OPTIMIZER_DEFAULTS: dict[str, dict[str, float]] = {
    "rmsprop": {"lr": 1e-4, "smoothing": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    "adam": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
}
MAX_TASKS = 1_000_000
Engine = Literal["eager", "fused", "compiled"]
Matmul = Literal["float32", "tf32", "bfloat16"]
Objective = Literal["H", "G"]
TEST_BATCH_SIZE = 128  # test images that share one answer of task inference


def _require(ok: bool, key: str, found: object, expected: str) -> None:
    if not ok:
        raise ConfigError(f"{key}: found {found!r}, expected {expected}")


def _fill_by_kind(spec: Any, section: str, choices: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each optional key its default for ``spec.kind``; refuse keys of another kind."""
    own = choices[spec.kind]
    for key in sorted({key for keys in choices.values() for key in keys}):
        value = getattr(spec, key)
        if key in own:
            object.__setattr__(spec, key, own[key] if value is None else value)
        elif value is not None:
            raise ConfigError(
                f"{section}.{key}: {section}.kind {spec.kind!r} has no such key; "
                f"remove it, or use one of: {', '.join(sorted(own)) or 'none'}"
            )


class Spec:
    """A frozen dataclass read from a mapping with exactly its keys.

    LATER_KEYS: keys younger than run folders in use, with the value that those folders mean.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    LATER_KEYS: ClassVar[Mapping[str, object]] = {}

    def canonical(self) -> dict[str, Any]:
        """Return the keys that are in use, as plain values ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]  # every subclass is a dataclass
        return {
            key: value.canonical() if isinstance(value, Spec) else value
            for key, value in values.items()
            if value is not None and value != self.LATER_KEYS.get(key)
        }


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec(Spec):
    """A stream of tasks made from one data set.

    num_tasks: how many tasks; not part of the run's identity.
    angle_step_deg: task t is turned by t times this (``rotated``; default 10).
    classes_per_task: consecutive classes, labels kept (``split``; default 2).
    permutation: ``named`` derives each permutation from (seed, task); ``original`` is
        the rule of the original code, RandomState(seed + task), where neighbouring
        seeds share nearly all tasks (``permuted``; default ``named``).
    """

    kind: Literal["permuted", "rotated", "split"]
    dataset: Literal["digits", "mnist", "fashion_mnist", "synthetic"]
    num_tasks: int
    angle_step_deg: float | None = None
    classes_per_task: int | None = None
    permutation: Literal["named", "original"] | None = None

    def __post_init__(self) -> None:
        _fill_by_kind(
            self,
            "benchmark",
            {
                "permuted": {"permutation": "named"},
                "rotated": {"angle_step_deg": 10.0},
                "split": {"classes_per_task": 2},
            },
        )
        self._check_num_tasks()

    def _check_num_tasks(self) -> None:
        key, found = "benchmark.num_tasks", self.num_tasks
        _require(1 <= found <= MAX_TASKS, key, found, f"a number from 1 to {MAX_TASKS:,}")
        if self.angle_step_deg is not None:
            step = self.angle_step_deg
            _require(0 < step < 360, "benchmark.angle_step_deg", step, "degrees between 0 and 360")
            most = math.floor(360 / step)
            _require(found <= most, key, found, f"at most {most}: tasks repeat after a full turn")
        if self.classes_per_task is not None:
            per_task, classes = self.classes_per_task, NUM_CLASSES[self.dataset]
            _require(
                1 <= per_task <= classes,
                "benchmark.classes_per_task",
                per_task,
                f"a number from 1 to {classes}, the classes of {self.dataset}",
            )
            most = classes // per_task
            _require(found <= most, key, found, f"at most {most}: {self.dataset} has {classes} classes")


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(Spec):
    """The fixed base network: a ReLU multi-layer perceptron without biases.

    kind: ``lenet_300_100`` and ``fc_1024_1024`` name their hidden layers; ``mlp`` takes
        ``hidden``. The input size comes from the data set.
    outputs: s, real classes plus superfluous neurons.
    """

    kind: Literal["lenet_300_100", "fc_1024_1024", "mlp"]
    outputs: int
    hidden: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind == "mlp":
            _require(self.hidden is not None, "network.hidden", None, "a list of widths for 'mlp'")
            _require(all(w >= 1 for w in self.hidden or ()), "network.hidden", self.hidden, "widths >= 1")
        else:
            _require(
                self.hidden is None,
                "network.hidden",
                self.hidden,
                f"no such key for {self.kind!r}: its widths are fixed; use kind: mlp",
            )
        _require(1 <= self.outputs <= 65_536, "network.outputs", self.outputs, "a number from 1 to 65,536")

    def widths(self, num_inputs: int) -> tuple[int, ...]:
        """Return every layer width, input first and outputs last."""
        hidden = self.hidden if self.hidden is not None else HIDDEN_WIDTHS[self.kind]
        return (num_inputs, *hidden, self.outputs)


@dataclass(frozen=True, kw_only=True)
class MaskSpec(Spec):
    """How a score becomes a mask bit. ``threshold``: kept where score >= 0."""

    rule: Literal["threshold"] = "threshold"


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec(Spec):
    """The optimizer of the scores. Keys left out take the paper's setting for the kind.

    ``smoothing`` is the decay of RMSProp's squared-gradient average (torch calls it
    alpha; here alpha is the superposition's coefficient and nothing else).
    state: how the optimizer's buffers are kept between steps; scores are always float32.
    """

    LATER_KEYS: ClassVar[Mapping[str, object]] = {"state": "float32"}

    kind: Literal["rmsprop", "adam", "sgd"] = "rmsprop"
    lr: float | None = None
    smoothing: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    state: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        _fill_by_kind(self, "training.optimizer", OPTIMIZER_DEFAULTS)
        for key in OPTIMIZER_DEFAULTS[self.kind]:
            value = getattr(self, key)
            ok = math.isfinite(value) and (value > 0 if key in ("lr", "eps") else value >= 0)
            _require(ok, f"training.optimizer.{key}", value, "a positive, finite number")
            if key in ("smoothing", "beta1", "beta2", "momentum"):
                _require(value < 1, f"training.optimizer.{key}", value, "a number from 0 to below 1")

    @property
    def num_buffers(self) -> int:
        """Buffers a score, which count in a worker's memory."""
        has_momentum = bool(self.momentum)
        return {"rmsprop": 1 + has_momentum, "adam": 2, "sgd": int(has_momentum)}[self.kind]

    @property
    def num_slots(self) -> int:
        """Buffers a score that this kind may have."""
        return {"rmsprop": 2, "adam": 2, "sgd": 1}[self.kind]

    @property
    def state_bytes(self) -> int:
        """Bytes a score that all buffers take."""
        return self.num_buffers * {"float32": 4, "bfloat16": 2}[self.state]


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(Spec):
    """How each task's scores are trained.

    task_identity: ``given`` in training (scenarios GG, GNs, GNu).
    steps: optimizer steps a task; batches run on across epochs, so each has
        ``batch_size`` images, drawn without replacement within an epoch.
    matmul: precision of the matrix products; ``tf32`` and ``bfloat16`` are for GPUs (on a CPU
        tf32 is float32). Scores and their gradients stay float32.
    """

    LATER_KEYS: ClassVar[Mapping[str, object]] = {"matmul": "float32"}

    task_identity: Literal["given"] = "given"
    steps: int = 1000
    batch_size: int = 128
    matmul: Matmul = "float32"
    optimizer: OptimizerSpec = OptimizerSpec()

    def __post_init__(self) -> None:
        _require(1 <= self.steps <= 10**8, "training.steps", self.steps, "a number from 1 to 100,000,000")
        size = self.batch_size
        _require(1 <= size <= 65_536, "training.batch_size", size, "a number from 1 to 65,536")

    @property
    def is_float32(self) -> bool:
        """Whether everything is kept and multiplied in float32 (tf32 is, on a CPU)."""
        return self.matmul != "bfloat16" and self.optimizer.state == "float32"


@dataclass(frozen=True, kw_only=True)
class InferenceSpec(Spec):
    """How the task of test images is inferred (paper, section 3).

    algorithm: ``one_shot`` takes one gradient; ``binary`` halves the candidates until one is
        left; ``exhaustive`` tries every mask alone; ``shortlist`` is one-shot on a part of the
        weights, its best candidates then compared exactly.
    objective: ``H``, the entropy, or ``G``, which needs superfluous neurons.
    images: of each test batch, that together decide for the whole batch, the first ones; or
        ``each``: every image decides for itself.
    """

    algorithm: Literal["one_shot", "binary", "exhaustive", "shortlist"] = "one_shot"
    objective: Objective = "G"
    images: int | Literal["each"] = 1

    def __post_init__(self) -> None:
        ok = self.images == "each" or 1 <= self.images <= TEST_BATCH_SIZE
        expected = f"a number from 1 to {TEST_BATCH_SIZE} or 'each'"
        _require(ok, "evaluation.inference.images", self.images, expected)

    @property
    def label(self) -> str:
        """The name of this way of inference in files and tables, such as one_shot-G-1."""
        return f"{self.algorithm}-{self.objective}-{self.images}"


@dataclass(frozen=True, kw_only=True)
class RunSpec(Spec):
    """All that decides the masks of a run; ``num_tasks`` decides how many there are."""

    seed: int
    benchmark: BenchmarkSpec
    network: NetworkSpec
    mask: MaskSpec = MaskSpec()
    training: TrainingSpec = TrainingSpec()

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**63, "seed", self.seed, "a number from 0 to 2**63 - 1")
        classes = NUM_CLASSES[self.benchmark.dataset]
        _require(
            self.network.outputs >= classes,
            "network.outputs",
            self.network.outputs,
            f"at least {classes}, the classes of {self.benchmark.dataset}",
        )
