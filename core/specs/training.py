"""How masks are trained: steps, optimizer, schedule, engine, and the stream and allocation of scenario NNs.

No numpy and no torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from core.errors import ConfigError
from core.specs.base import MAX_TASKS, Spec, fill_by_kind, require

OPTIMIZER_DEFAULTS: dict[str, dict[str, float]] = {
    "rmsprop": {"lr": 1e-4, "smoothing": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    "adam": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
}
Matmul = Literal["float32", "tf32", "bfloat16"]
DEFAULT_STEPS = 1000
Engine = Literal["eager", "fused", "compiled", "triton"]


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec(Spec):
    """How the learning rate changes from epoch to epoch.

    kind: ``cosine`` decays to zero.
    warmup: epochs in which the rate first rises, in equal steps. If training is counted in steps, each
        step counts as an epoch here.
    """

    kind: Literal["cosine"] = "cosine"
    warmup: int = 0

    def __post_init__(self) -> None:
        require(self.warmup >= 0, "training.schedule.warmup", self.warmup, "a number >= 0")


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec(Spec):
    """The optimizer of the scores. Omitted keys take the paper's setting for the kind.

    kind: ``rmsprop``, the paper's choice for MNIST (lr 1e-4); ``adam`` (lr 1e-3); or ``sgd`` (lr 0.1,
        momentum 0.9).
    lr: learning rate.
    smoothing: RMSProp's decay of the squared-gradient average (torch calls it alpha; here alpha always
        means the coefficient of a superposition).
    beta1: Adam's decay rate of the gradient average.
    beta2: Adam's decay rate of the squared-gradient average.
    momentum: momentum of SGD and RMSProp.
    eps: added to the root in the denominator.
    weight_decay: this factor times the score is added to the gradient.
    state: precision of the optimizer's buffers between steps; scores are always float32.
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
        """Buffers per score, which count towards a worker's memory."""
        has_momentum = bool(self.momentum)
        return {"rmsprop": 1 + has_momentum, "adam": 2, "sgd": int(has_momentum)}[self.kind]

    @property
    def num_slots(self) -> int:
        """The most buffers per score that this kind can have."""
        return {"rmsprop": 2, "adam": 2, "sgd": 1}[self.kind]

    @property
    def state_bytes(self) -> int:
        """Bytes per score of all buffers together."""
        return self.num_buffers * {"float32": 4, "bfloat16": 2}[self.state]


@dataclass(frozen=True, kw_only=True)
class StreamSpec(Spec):
    """The stream of batches without task ids (scenario NNs): which task is visited when.

    New tasks come in order, each once.

    boundaries: ``random`` puts boundaries anywhere, so that a visit lasts ``training.steps`` batches on
        average, give or take up to ``length_jitter`` of that. ``aligned`` puts them where decisions fall, as
        the original code does, which leaks them to the model.
    length_jitter: largest deviation of a random visit length, as a fraction of ``training.steps``.
    return_share: number of later visits to an earlier task, per task.
    repeat_share: number of immediately repeated visits to the same task, per task.
    """

    boundaries: Literal["random", "aligned"] = "random"
    length_jitter: float = 0.25
    return_share: float = 0.25
    repeat_share: float = 0.1

    def __post_init__(self) -> None:
        jitter = self.length_jitter
        require(0 <= jitter < 1, "training.stream.length_jitter", jitter, "a number from 0 to below 1")
        for key in ("return_share", "repeat_share"):
            share = getattr(self, key)
            require(0 <= share <= 100, f"training.stream.{key}", share, "a number from 0 to 100")


@dataclass(frozen=True, kw_only=True)
class AllocationSpec(Spec):
    """When a stream without task ids gets a new mask (paper, section 3, scenario NNs).

    decide_every: batches between decisions.
    epsilon: a new mask is allocated if candidates * max(nu) < 1 + epsilon.
    min_candidates: fewest masks in the superposition, untrained ones included. 5 is the original code's
        value; with 1, as in the paper's text, a second mask is always allocated.
    mask_budget: largest number of masks.
    past_budget: when a new mask is needed but the budget is spent, ``reuse`` trains the best mask and
        ``skip`` leaves the batches out; both are counted.
    rollback: ours, not the paper's. Each decision ignores the training since the last one, and drops
        it if another mask is chosen. Without this, the old mask learns some of the new task after a
        boundary between two decisions, and then takes over the whole task. A mask's first training is
        always kept.
    """

    decide_every: int = 100
    epsilon: float = 0.125
    min_candidates: int = 5
    mask_budget: int = 2500
    past_budget: Literal["reuse", "skip"] = "reuse"
    rollback: bool = False

    def __post_init__(self) -> None:
        for key in ("decide_every", "min_candidates", "mask_budget"):
            found = getattr(self, key)
            require(
                1 <= found <= MAX_TASKS,
                f"training.allocation.{key}",
                found,
                f"a number from 1 to {MAX_TASKS:,}",
            )
        require(
            0 <= self.epsilon < 1e6, "training.allocation.epsilon", self.epsilon, "a number from 0 to 1e6"
        )


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(Spec):
    """How each task's scores are trained.

    task_identity: whether the task is ``given`` in training (scenarios GG, GNs, GNu). With ``none`` (NNs),
        there is one stream of batches, in which the model finds the tasks and allocates masks itself.
    steps: optimizer steps per task; batches continue across epochs, so each has ``batch_size`` images,
        drawn without replacement within an epoch. In a stream, batches per visit.
    epochs: length of training, instead of steps; for modules, networks with masks on outputs, and baselines.
    batch_size: images per step.
    stream, allocation: for task_identity ``none``.
    schedule: how the learning rate changes; None: it is constant.
    transfer: start each task from the running mean of the ``masks`` of all earlier tasks (paper), or of
        their ``scores`` (original code). Tasks are then trained one at a time.
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
            self.steps is None or self.epochs is None,
            "training.epochs",
            self.epochs,
            "null if steps are given",
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
        """Whether the task is given during training."""
        return self.task_identity == "given"

    @property
    def num_steps(self) -> int:
        """Steps per task, or batches per visit. Raises ConfigError if training is counted in epochs."""
        if self.steps is None:
            raise ConfigError("training.epochs: found a number, expected steps for this network")
        return self.steps

    @property
    def is_float32(self) -> bool:
        """Whether everything is stored and multiplied in float32 (on a CPU, tf32 is float32)."""
        return self.matmul != "bfloat16" and self.optimizer.state == "float32"
