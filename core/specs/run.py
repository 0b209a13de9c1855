"""What a run means, as frozen dataclasses; checked once, when built.

Everything here except ``BenchmarkSpec.num_tasks`` decides the bits of the masks. No
numpy and no torch, so that a plan can be made where neither is loaded.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from core.specs.base import Spec, require
from core.specs.baseline_specs import BaselineSpec
from core.specs.benchmark import COLOURED, BenchmarkSpec
from core.specs.training import TrainingSpec

HIDDEN_WIDTHS = {"lenet_300_100": (300, 100), "fc_1024_1024": (1024, 1024), "bn_fc_2048": (2048, 2048)}
MASKED_OUTPUTS = ("bn_fc_2048", "bn_mlp")  # networks with masks on layer outputs, not on weights
MODULES = ("conv4", "gem_resnet18", "resnet50", "module")  # networks that are a torch.nn.Module
Engine = Literal["eager", "fused", "compiled"]
Objective = Literal["H", "G", "E"]
TEST_BATCH_SIZE = 128  # test images that share one answer of task inference


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(Spec):
    """The fixed base network, without biases.

    kind: ``lenet_300_100`` and ``fc_1024_1024`` are multi-layer perceptrons that name their hidden
        layers, ``mlp`` takes ``hidden``; all three have ReLU and masks on their weights.
        ``bn_fc_2048`` and ``bn_mlp`` (which takes ``hidden``) have batch normalisation, Swish, and
        masks on the outputs of hidden layers (HopSupSup). ``conv4``, ``gem_resnet18`` and
        ``resnet50`` are convolutional (``core.networks.architectures``); ``module`` is the user's own. The
        input size comes from the data set.
    hidden: widths of the hidden layers of ``mlp`` and ``bn_mlp``.
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

    rule: ``threshold`` keeps the weights whose score is >= 0; the density is not controlled, about 0.5.
        ``top_k`` keeps an exact number of each layer, those with the largest |score| (Edge-Popup), by
        one of the two keys below.
    density: the fraction kept, the same in every layer.
    density_multiplier: S of the Erdos-Renyi budget min(0.5, S * (out + in) / (out * in * height * width))
        of each layer; larger S keeps more.
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
class InferenceSpec(Spec):
    """How the task of test images is inferred (paper, section 3).

    algorithm: ``one_shot`` takes one gradient; ``binary`` halves the candidates until one is
        left; ``exhaustive`` tries every mask alone; ``shortlist`` is one-shot on a part of the
        weights, its best candidates then compared exactly.
    objective: ``H``, the entropy; ``G``, which needs superfluous neurons (exhaustive: the maximum
        logit); or ``E``, the energy, minus logsumexp of the real logits (ours, not the paper's).
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
    training: TrainingSpec = field(default_factory=TrainingSpec)
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
