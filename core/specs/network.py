"""Specifications of the base network and of the rule that turns scores into a mask. No numpy, no torch."""

import math
from dataclasses import dataclass
from typing import Literal

from core.specs.base import Spec, require
from core.specs.own_code import NETWORKS, OwnCode, code_path

HIDDEN_WIDTHS = {"lenet_300_100": (300, 100), "fc_1024_1024": (1024, 1024), "bn_fc_2048": (2048, 2048)}
Kind = Literal[
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
MAX_WIDTH = 65_536  # of a layer
MAX_LAYERS = 1000


@dataclass(frozen=True, kw_only=True)
class NetworkTraits:
    """What a family of networks allows, as data for checking and planning a run.

    family: its key in ``core.families.FAMILIES``. activation: as text, with {kind}. engines: those that can
    train it. streams: whether it can learn without task ids. epochs: whether training may be counted in
    epochs. products: the precisions it can multiply in. top_k: whether masks may keep an exact number of
    weights. transfers: whether a task may start from earlier ones. baselines: whether baselines can use it.
    whole_images: whether it sees images rather than pixels (natural images, local labels, schedules).
    in_memory: whether its masks are recovered from a Hopfield memory. cohorts_on_cpu: whether training
    several tasks together is faster on a CPU.
    """

    family: str
    activation: str
    engines: tuple[str, ...] = ("eager",)
    streams: bool = False
    epochs: bool = True
    products: tuple[str, ...] = ("float32",)
    top_k: bool = True
    transfers: bool = True
    baselines: bool = True
    whole_images: bool = False
    in_memory: bool = False
    cohorts_on_cpu: bool = True


PERCEPTRON = NetworkTraits(
    family="perceptron",
    activation="relu",
    engines=("eager", "fused", "compiled", "triton"),
    streams=True,
    epochs=False,
    products=("float32", "tf32", "bfloat16"),
)
MODULE = NetworkTraits(family="module", activation="that of {kind}", whole_images=True, cohorts_on_cpu=False)
OUTPUT_MASKED = NetworkTraits(
    family="outputs",
    activation="swish(mask * batch_norm(.))",
    products=("float32", "tf32"),
    top_k=False,
    transfers=False,
    baselines=False,
    in_memory=True,
)
TRAITS: dict[Kind, NetworkTraits] = {
    "lenet_300_100": PERCEPTRON,
    "fc_1024_1024": PERCEPTRON,
    "mlp": PERCEPTRON,
    "bn_fc_2048": OUTPUT_MASKED,
    "bn_mlp": OUTPUT_MASKED,
    "conv4": MODULE,
    "gem_resnet18": MODULE,
    "resnet50": MODULE,
    "module": MODULE,
}


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(Spec):
    """The fixed base network, without biases.

    kind: ``lenet_300_100`` and ``fc_1024_1024`` are multi-layer perceptrons with the hidden widths in
        their names, and ``mlp`` takes its widths from ``hidden``; all three have ReLU and masks on their
        weights. ``bn_fc_2048`` and ``bn_mlp`` (widths from ``hidden``) have batch normalisation, Swish, and
        masks on the outputs of hidden layers (HopSupSup). ``conv4``, ``gem_resnet18`` and ``resnet50`` are
        convolutional (``core.networks.architectures``). ``module`` is your own network. The input
        size comes from the data set.
    hidden: widths of the hidden layers of ``mlp`` and ``bn_mlp``.
    outputs: number of outputs s: the real classes plus the superfluous neurons.
    import_path: ``package.file:name``, or an entry point ``supsup.networks``, of the function or class that makes a ``module``, called with
        (outputs, image_shape).
    """

    kind: Kind
    outputs: int
    hidden: tuple[int, ...] | None = None
    import_path: str | None = None

    def __post_init__(self) -> None:
        path, is_own = self.import_path, self.kind == "module"
        ok = code_path(path or "", NETWORKS) is not None if is_own else path is None
        expected = "package.file:name of a function or class" if is_own else "null: for kind 'module' only"
        require(ok, "network.import_path", path, expected)
        if self.kind in ("mlp", "bn_mlp"):
            require(bool(self.hidden), "network.hidden", self.hidden, f"a list of widths for {self.kind!r}")
            wrong = next((width for width in self.hidden or () if not 1 <= width <= MAX_WIDTH), None)
            require(wrong is None, "network.hidden", wrong, f"widths from 1 to {MAX_WIDTH:,}")
            num_layers = len(self.hidden or ())
            expected = f"widths of at most {MAX_LAYERS} layers"
            require(num_layers <= MAX_LAYERS, "network.hidden", f"{num_layers:,} widths", expected)
        else:
            require(
                self.hidden is None,
                "network.hidden",
                self.hidden,
                f"no such key for {self.kind!r}: its widths are fixed; use kind: mlp or bn_mlp",
            )
        expected = f"a number from 1 to {MAX_WIDTH:,}"
        require(1 <= self.outputs <= MAX_WIDTH, "network.outputs", self.outputs, expected)

    @property
    def traits(self) -> NetworkTraits:
        """What its family allows."""
        return TRAITS[self.kind]

    @property
    def own_code(self) -> OwnCode | None:
        """The user's own network, if it is one."""
        path = code_path(self.import_path, NETWORKS)
        return None if path is None else OwnCode("network.import_path", path)

    def widths(self, num_inputs: int) -> tuple[int, ...]:
        """Return every layer width, input first and outputs last."""
        hidden = self.hidden if self.hidden is not None else HIDDEN_WIDTHS[self.kind]
        return (num_inputs, *hidden, self.outputs)


@dataclass(frozen=True, kw_only=True)
class MaskSpec(Spec):
    """How scores become a mask.

    rule: ``threshold`` keeps the weights whose score is >= 0; the density is about 0.5 and not controlled.
        ``top_k`` keeps an exact number of weights in each layer, those with the largest |score|
        (Edge-Popup); one of the two keys below sets the number.
    density: fraction of the weights kept, the same in every layer.
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
        require(len(given) == 1, "mask.density", given, "either this or density_multiplier for 'top_k'")
        value = getattr(self, given[0])
        ok = math.isfinite(value) and 0 < value <= (1 if given == ["density"] else math.inf)
        require(
            ok,
            f"mask.{given[0]}",
            value,
            "the fraction kept, above 0 and up to 1" if given == ["density"] else "a number > 0",
        )
