"""What a run means, as frozen dataclasses; checked once, when built.

Everything here except ``BenchmarkSpec.num_tasks`` decides the bits of the masks. No
numpy and no torch, so that a plan can be made where neither is loaded.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from core.baseline_specs import BaselineSpec
from core.benchmark_specs import COLOURED, BenchmarkSpec
from core.errors import ConfigError
from core.spec import Spec, fill_by_kind, require
from core.stream_specs import AllocationSpec, StreamSpec

HIDDEN_WIDTHS = {"lenet_300_100": (300, 100), "fc_1024_1024": (1024, 1024), "bn_fc_2048": (2048, 2048)}
MASKED_OUTPUTS = ("bn_fc_2048", "bn_mlp")  # networks with masks on layer outputs, not on weights
MODULES = ("conv4", "gem_resnet18", "resnet50", "module")  # networks that are a torch.nn.Module
OPTIMIZER_DEFAULTS: dict[str, dict[str, float]] = {
    "rmsprop": {"lr": 1e-4, "smoothing": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    "adam": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
}
Engine = Literal["eager", "fused", "compiled"]
Matmul = Literal["float32", "tf32", "bfloat16"]
Objective = Literal["H", "G"]
DEFAULT_STEPS = 1000
TEST_BATCH_SIZE = 128  # test images that share one answer of task inference


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(Spec):
    """The fixed base network, without biases.

    kind: ``lenet_300_100`` and ``fc_1024_1024`` are multi-layer perceptrons that name their hidden
        layers, ``mlp`` takes ``hidden``; all three have ReLU and masks on their weights.
        ``bn_fc_2048`` and ``bn_mlp`` (which takes ``hidden``) have batch normalisation, Swish, and
        masks on the outputs of hidden layers (HopSupSup). ``conv4``, ``gem_resnet18`` and
        ``resnet50`` are convolutional (``core.architectures``); ``module`` is the user's own. The
        input size comes from the data set.
    outputs: s, real classes plus superfluous neurons.
    import_path: of ``module``: ``package.file:name``, called with (outputs, image_shape).
    """

    kind: Literal[
        "lenet_300_100",
        "fc_1024_1024",
        "mlp",
        "bn_fc_2048",
        "bn_mlp",
        "conv4",
        "gem_resnet18",
        "resnet50",
        "module",
    ]
    outputs: int
    hidden: tuple[int, ...] | None = None
    import_path: str | None = None

    def __post_init__(self) -> None:
        path, is_own = self.import_path, self.kind == "module"
        ok = re.fullmatch(r"[\w.]+:\w+", path or "") is not None if is_own else path is None
        expected = "package.file:name of a function or class" if is_own else "null: for kind 'module' only"
        require(ok, "network.import_path", path, expected)
        if self.kind in ("mlp", "bn_mlp"):
            require(bool(self.hidden), "network.hidden", self.hidden, f"a list of widths for {self.kind!r}")
            require(all(w >= 1 for w in self.hidden or ()), "network.hidden", self.hidden, "widths >= 1")
        else:
            require(
                self.hidden is None,
                "network.hidden",
                self.hidden,
                f"no such key for {self.kind!r}: its widths are fixed; use kind: mlp or bn_mlp",
            )
        require(1 <= self.outputs <= 65_536, "network.outputs", self.outputs, "a number from 1 to 65,536")

    @property
    def masks_outputs(self) -> bool:
        """Whether masks are on the outputs of hidden layers, in place of the weights."""
        return self.kind in MASKED_OUTPUTS

    @property
    def is_module(self) -> bool:
        """Whether the network is a ``torch.nn.Module``."""
        return self.kind in MODULES

    def widths(self, num_inputs: int) -> tuple[int, ...]:
        """Return every layer width, input first and outputs last."""
        hidden = self.hidden if self.hidden is not None else HIDDEN_WIDTHS[self.kind]
        return (num_inputs, *hidden, self.outputs)


@dataclass(frozen=True, kw_only=True)
class MaskSpec(Spec):
    """How scores become a mask.

    ``threshold``: kept where score >= 0; the density is not controlled, about 0.5.
    ``top_k``: of each layer those with the largest |score| (Edge-Popup), an exact number, by
        ``density``, the fraction kept, the same in every layer; or by ``density_multiplier`` S, the
        Erdos-Renyi budget min(0.5, S * (out + in) / (out * in * height * width)): larger S keeps more.
    """

    rule: Literal["threshold", "top_k"] = "threshold"
    density: float | None = None
    density_multiplier: float | None = None

    def __post_init__(self) -> None:
        given = [key for key in ("density", "density_multiplier") if getattr(self, key) is not None]
        if self.rule == "threshold":
            key = given[0] if given else "density"
            require(not given, f"mask.{key}", getattr(self, key), "null for rule 'threshold', or rule: top_k")
            return
        require(
            len(given) == 1, "mask.density", given, "this or density_multiplier, one of the two, for 'top_k'"
        )
        value = getattr(self, given[0])
        ok = math.isfinite(value) and 0 < value <= (1 if given == ["density"] else math.inf)
        require(
            ok,
            f"mask.{given[0]}",
            value,
            "a fraction kept, above 0, up to 1" if given == ["density"] else "a number > 0",
        )


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec(Spec):
    """How the learning rate changes: after ``cosine`` to zero, from epoch to epoch.

    warmup: epochs over which it first rises, in equal steps. Where training counts steps, each
    step is an epoch here.
    """

    kind: Literal["cosine"] = "cosine"
    warmup: int = 0

    def __post_init__(self) -> None:
        require(self.warmup >= 0, "training.schedule.warmup", self.warmup, "a number >= 0")


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
        fill_by_kind(self, "training.optimizer", OPTIMIZER_DEFAULTS)
        for key in OPTIMIZER_DEFAULTS[self.kind]:
            value = getattr(self, key)
            ok = math.isfinite(value) and (value > 0 if key in ("lr", "eps") else value >= 0)
            require(ok, f"training.optimizer.{key}", value, "a positive, finite number")
            if key in ("smoothing", "beta1", "beta2", "momentum"):
                require(value < 1, f"training.optimizer.{key}", value, "a number from 0 to below 1")

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

    task_identity: ``given`` in training (scenarios GG, GNs, GNu), or ``none`` (NNs): one stream
        of batches, in which the model finds tasks and allocates masks by itself.
    steps: optimizer steps a task; batches run on across epochs, so each has
        ``batch_size`` images, drawn without replacement within an epoch. In a stream: batches
        of a visit. epochs: in place of steps, for networks with masks on their outputs.
    stream, allocation: for task_identity ``none``.
    schedule: of the learning rate; None: constant.
    transfer: a task starts from the running mean of the ``masks`` of all tasks before it (paper), or
        of their ``scores`` (original code); tasks are then trained one after another.
    matmul: precision of the matrix products; ``tf32`` and ``bfloat16`` are for GPUs (on a CPU
        tf32 is float32). Scores and their gradients stay float32.
    """

    LATER_KEYS: ClassVar[Mapping[str, object]] = {"matmul": "float32", "transfer": "none"}

    task_identity: Literal["given", "none"] = "given"
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 128
    matmul: Matmul = "float32"
    optimizer: OptimizerSpec = OptimizerSpec()
    stream: StreamSpec | None = None
    allocation: AllocationSpec | None = None
    schedule: ScheduleSpec | None = None
    transfer: Literal["none", "masks", "scores"] = "none"

    def __post_init__(self) -> None:
        require(
            self.steps is None or self.epochs is None, "training.epochs", self.epochs, "null beside steps"
        )
        if self.steps is None and self.epochs is None:
            object.__setattr__(self, "steps", DEFAULT_STEPS)
        for key in ("steps", "epochs"):
            found = getattr(self, key)
            ok = found is None or 1 <= found <= 10**8
            require(ok, f"training.{key}", found, "a number from 1 to 100,000,000")
        size = self.batch_size
        require(1 <= size <= 65_536, "training.batch_size", size, "a number from 1 to 65,536")
        self._check_stream()

    def _check_stream(self) -> None:
        if self.is_given:
            for key in ("stream", "allocation"):
                require(
                    getattr(self, key) is None, f"training.{key}", "keys", "none for task_identity: given"
                )
            return
        require(self.transfer == "none", "training.transfer", self.transfer, "'none' for task_identity: none")
        stream, allocation = self.stream or StreamSpec(), self.allocation or AllocationSpec()
        object.__setattr__(self, "stream", stream)
        object.__setattr__(self, "allocation", allocation)
        every, steps = allocation.decide_every, self.num_steps
        ok = stream.boundaries == "random" or steps % every == 0
        require(ok, "training.steps", steps, f"a multiple of decide_every ({every}) for boundaries: aligned")

    @property
    def is_given(self) -> bool:
        """Whether the task is given in training."""
        return self.task_identity == "given"

    @property
    def num_steps(self) -> int:
        """Steps of a task, or batches of a visit. Raises ConfigError where epochs count."""
        if self.steps is None:
            raise ConfigError("training.epochs: found a number, expected steps for this network")
        return self.steps

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
    norms: what normalises a superposition of networks with batch normalisation: the ``batch`` of
        images that decide, or the mean of the tasks' ``running`` statistics.
    """

    LATER_KEYS: ClassVar[Mapping[str, object]] = {"norms": "batch"}

    algorithm: Literal["one_shot", "binary", "exhaustive", "shortlist"] = "one_shot"
    objective: Objective = "G"
    images: int | Literal["each"] = 1
    norms: Literal["batch", "running"] = "batch"

    def __post_init__(self) -> None:
        ok = self.images == "each" or 1 <= self.images <= TEST_BATCH_SIZE
        expected = f"a number from 1 to {TEST_BATCH_SIZE} or 'each'"
        require(ok, "evaluation.inference.images", self.images, expected)

    @property
    def label(self) -> str:
        """The name of this way of inference in files and tables, such as one_shot-G-1."""
        label = f"{self.algorithm}-{self.objective}-{self.images}"
        return label if self.norms == "batch" else f"{label}-{self.norms}"


@dataclass(frozen=True, kw_only=True)
class RunSpec(Spec):
    """All that decides the masks of a run; ``num_tasks`` decides how many there are."""

    seed: int
    benchmark: BenchmarkSpec
    network: NetworkSpec
    mask: MaskSpec = MaskSpec()
    training: TrainingSpec = TrainingSpec()
    baseline: BaselineSpec | None = None

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "seed", self.seed, "a number from 0 to 2**63 - 1")
        classes, found = self.benchmark.real_classes, self.network.outputs
        whose = "a task" if self.benchmark.labels == "local" else self.benchmark.dataset
        require(found >= classes, "network.outputs", found, f"at least {classes}, the classes of {whose}")
        self._check_network()
        self._check_rule()

    def _check_network(self) -> None:
        training, kind = self.training, self.network.kind
        is_plain = training.is_float32 and training.matmul == "float32"
        if self.network.masks_outputs:
            require(training.is_given, "training.task_identity", "none", f"given for network {kind!r}")
            require(training.is_float32, "training.matmul", "bfloat16", f"float32 throughout for {kind!r}")
        elif self.network.is_module:
            require(training.is_given, "training.task_identity", "none", f"given for network {kind!r}")
            require(is_plain, "training.matmul", training.matmul, f"float32 throughout for {kind!r}")
        elif self.baseline is None:
            ok, expected = training.epochs is None, f"null: network {kind!r} takes training.steps"
            require(ok, "training.epochs", training.epochs, expected)

    def _check_rule(self) -> None:
        network, training, kind = self.network, self.training, self.network.kind
        modules = f"one of {', '.join(MODULES)}"
        as_module = network.is_module or self.baseline is not None
        if self.benchmark.dataset in COLOURED or self.benchmark.labels == "local":
            require(as_module, "network.kind", kind, f"{modules}, for natural images and local labels")
        ok = training.schedule is None or as_module
        require(ok, "training.schedule", "keys", f"null for network {kind!r}")
        ok = self.mask.rule == "threshold" or not network.masks_outputs
        require(ok, "mask.rule", self.mask.rule, f"'threshold' for network {kind!r}")
        ok = self.mask.rule == "threshold" or training.is_given
        require(ok, "mask.rule", self.mask.rule, "'threshold' for task_identity: none")
        ok = training.transfer == "none" or not (network.masks_outputs or self.baseline)
        require(ok, "training.transfer", training.transfer, "'none' for a baseline, or masks on outputs")
