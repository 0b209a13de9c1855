"""How tasks are inferred, and how HopSupSup stores and recovers masks. No numpy, no torch.

HopSupSup's defaults follow the original code, except for the use of test images.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from core.specs.base import Spec, require

HopfieldRule = Literal["hebbian", "storkey"]
Objective = Literal["H", "G", "E"]
TEST_BATCH_SIZE = 128  # test images that can share one inferred task


@dataclass(frozen=True, kw_only=True)
class HopfieldSpec(Spec):
    """How masks are stored in Psi, and recovered from unlabelled test images.

    rule: how a mask is stored in Psi.
    adapt_on: ``disjoint`` adapts on every other test image and scores the rest; ``same`` adapts on the
        images that are scored, as the original code does.
    order: order of the images to adapt on, that of the data ``file`` or ``shuffled``, as in the original
        code.
    steps: gradient steps T, cycling through the images to adapt on; ``one_pass`` goes through them once,
        as the original code does.
    batch_size: images per step.
    gamma: weight of the energy relative to the entropy.
    lr: learning rate of SGD on the scores, which start at the mean of the stored z.
    momentum: momentum of SGD.
    weight_decay: weight decay of SGD.
    """

    rule: HopfieldRule = "storkey"
    adapt_on: Literal["disjoint", "same"] = "disjoint"
    order: Literal["file", "shuffled"] = "file"
    steps: int | Literal["one_pass"] = 30
    batch_size: int = 64
    gamma: float = 1.5e-3
    lr: float = 500.0
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        key = "evaluation.hopfield"
        require(self.steps == "one_pass" or self.steps >= 1, f"{key}.steps", self.steps, "'one_pass' or >= 1")
        require(2 <= self.batch_size <= 65_536, f"{key}.batch_size", self.batch_size, "2 to 65,536")
        require(self.gamma >= 0, f"{key}.gamma", self.gamma, "a number >= 0")
        require(self.lr > 0, f"{key}.lr", self.lr, "a positive number")
        require(0 <= self.momentum < 1, f"{key}.momentum", self.momentum, "a number from 0 to below 1")
        require(self.weight_decay >= 0, f"{key}.weight_decay", self.weight_decay, "a number >= 0")

    @property
    def label(self) -> str:
        """The name of these settings in files and tables, such as hopfield-storkey-disjoint-30.

        Settings that are rarely changed add a hash at the end if they differ from the defaults.
        """
        rare = (self.batch_size, self.gamma, self.lr, self.momentum, self.weight_decay)
        usual = tuple(f.default for f in fields(self) if f.name not in ("rule", "adapt_on", "order", "steps"))
        suffix = "" if rare == usual else f"-{hashlib.sha256(repr(rare).encode()).hexdigest()[:6]}"
        order = "" if self.order == "file" else f"-{self.order}"
        return f"hopfield-{self.rule}-{self.adapt_on}-{self.steps}{order}{suffix}"


@dataclass(frozen=True, kw_only=True)
class InferenceSpec(Spec):
    """How the task of test images is inferred (paper, section 3).

    algorithm: ``one_shot`` takes one gradient; ``binary`` halves the candidates until one is
        left; ``exhaustive`` tries each mask on its own; ``shortlist`` runs one-shot on a part of
        the weights, then compares the best candidates exactly.
    objective: ``H``, the entropy; ``G``, which needs superfluous neurons (exhaustive: the maximum
        logit); or ``E``, the energy, minus logsumexp of the real logits (ours, not the paper's).
    images: how many images, the first of each test batch, decide together for the whole batch; with
        ``each``, every image decides for itself.
    norms: what normalises a superposition of networks with batch normalisation, the ``batch`` of
        images that decide or the mean of the tasks' ``running`` statistics.
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
        """The name of this method in files and tables, such as one_shot-G-1."""
        label = f"{self.algorithm}-{self.objective}-{self.images}"
        return label if self.norms == "batch" else f"{label}-{self.norms}"
