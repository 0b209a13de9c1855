"""How tasks are inferred, and how HopSupSup stores and recovers masks. No numpy, no torch.

HopSupSup's defaults follow the original code, except for the use of test images.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from core.specs.base import Spec, require
from core.specs.training import OptimizerSpec

HopfieldRule = Literal["hebbian", "storkey"]
HopfieldSearch = Literal["descent", "projected"]
Objective = Literal["H", "G", "E", "S", "SE"]
STATISTICS = ("S", "SE")  # objectives that compare channel statistics
RARE = ("batch_size", "gamma", "lr", "momentum", "weight_decay")  # settings that rarely change
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
    gamma: weight of the energy relative to the entropy (``descent``).
    lr: learning rate of SGD on the scores, which start at the mean of the stored z.
    momentum: momentum of SGD.
    weight_decay: weight decay of SGD.
    search: ``descent`` on entropy and energy, as in the original code; ``projected`` (ours) stays in the
        span of the stored masks, which it reads from Psi, and finds one layer's mask after another.
    candidates: masks that ``projected`` finds one after another, ``steps`` for each; the one with the lowest
        entropy wins. More masks in the memory need more: 3 for 5 to 20 masks, 10 for 100. ``descent`` has 1.
    """

    LATER_KEYS: ClassVar[Mapping[str, object]] = {"search": "descent", "candidates": 1}

    rule: HopfieldRule = "storkey"
    adapt_on: Literal["disjoint", "same"] = "disjoint"
    order: Literal["file", "shuffled"] = "file"
    steps: int | Literal["one_pass"] = 30
    batch_size: int = 64
    gamma: float = 1.5e-3
    lr: float = 500.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    search: HopfieldSearch = "descent"
    candidates: int = 1

    def __post_init__(self) -> None:
        key = "evaluation.hopfield"
        require(self.candidates >= 1, f"{key}.candidates", self.candidates, "a number from 1")
        ok = self.search == "projected" or self.candidates == 1
        require(ok, f"{key}.candidates", self.candidates, "1, as only search: projected has several")
        require(self.steps == "one_pass" or self.steps >= 1, f"{key}.steps", self.steps, "'one_pass' or >= 1")
        require(2 <= self.batch_size <= 65_536, f"{key}.batch_size", self.batch_size, "2 to 65,536")
        require(self.gamma >= 0, f"{key}.gamma", self.gamma, "a number >= 0")
        require(self.lr > 0, f"{key}.lr", self.lr, "a positive number")
        require(0 <= self.momentum < 1, f"{key}.momentum", self.momentum, "a number from 0 to below 1")
        require(self.weight_decay >= 0, f"{key}.weight_decay", self.weight_decay, "a number >= 0")

    @property
    def optimizer(self) -> OptimizerSpec:
        """SGD on the scores."""
        return OptimizerSpec(kind="sgd", lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    @property
    def label(self) -> str:
        """The name of these settings in files and tables, such as hopfield-storkey-disjoint-30.

        Settings that are rarely changed add a hash at the end if they differ from the defaults.
        """
        rare = tuple(getattr(self, name) for name in RARE)
        usual = tuple(f.default for f in fields(self) if f.name in RARE)
        suffix = "" if rare == usual else f"-{hashlib.sha256(repr(rare).encode()).hexdigest()[:6]}"
        order = "" if self.order == "file" else f"-{self.order}"
        search = "" if self.search == "descent" else f"-{self.search}-{self.candidates}"
        return f"hopfield-{self.rule}-{self.adapt_on}-{self.steps}{search}{order}{suffix}"


@dataclass(frozen=True, kw_only=True)
class InferenceSpec(Spec):
    """How the task of test images is inferred (paper, section 3).

    algorithm: ``one_shot`` takes one gradient; ``binary`` halves the candidates until one is
        left; ``exhaustive`` tries each mask on its own; ``shortlist`` runs one-shot on a part of
        the weights, then compares the best candidates exactly.
    objective: ``H``, the entropy; ``G``, which needs superfluous neurons (exhaustive: the maximum
        logit); ``E``, the energy, minus logsumexp of the real logits; ``S``, how far the channel statistics
        of the images are from those of the task's training; or ``SE``, S and E each standardised over the
        masks and added. S and SE are for ``exhaustive`` and networks with batch normalisation; E, S and SE are
        ours, not the paper's.
    images: how many images of each test batch decide together for the whole batch; with ``each``, every
        image decides for itself.
    norms: what normalises a superposition of networks with batch normalisation, the ``batch`` of
        images that decide or the mean of the tasks' ``running`` statistics.
    norms_compared: how many normalisations ``S`` and ``SE`` compare, the first that an image passes.
    deciding: which images of a batch decide: the ``first``, in file order, so the same for every task, or
        images ``drawn`` for each task and batch.
    """

    LATER_KEYS: ClassVar[Mapping[str, object]] = {
        "norms": "batch",
        "deciding": "first",
        "norms_compared": 2,
    }

    algorithm: Literal["one_shot", "binary", "exhaustive", "shortlist"] = "one_shot"
    objective: Objective = "G"
    images: int | Literal["each"] = 1
    norms: Literal["batch", "running"] = "batch"
    deciding: Literal["first", "drawn"] = "first"
    norms_compared: int = 2

    def __post_init__(self) -> None:
        ok = self.images == "each" or 1 <= self.images <= TEST_BATCH_SIZE
        expected = f"a number from 1 to {TEST_BATCH_SIZE} or 'each'"
        require(ok, "evaluation.inference.images", self.images, expected)
        ok = self.objective not in STATISTICS or self.algorithm == "exhaustive"
        expected = f"exhaustive, for objective {self.objective}"
        require(ok, "evaluation.inference.algorithm", self.algorithm, expected)
        require(
            self.norms_compared >= 1,
            "evaluation.inference.norms_compared",
            self.norms_compared,
            "a number from 1",
        )

    @property
    def label(self) -> str:
        """The name of this method in files and tables, such as one_shot-G-1."""
        label = f"{self.algorithm}-{self.objective}-{self.images}"
        words = ["drawn"] * self.draws
        words += [self.norms] * (self.norms != "batch")
        words += [f"norms{self.norms_compared}"] * (self.norms_compared != InferenceSpec.norms_compared)
        return "-".join([label, *words])

    @property
    def draws(self) -> bool:
        """Whether some images of a batch are drawn; where all of them decide, there is nothing to draw."""
        return self.deciding == "drawn" and self.images not in ("each", TEST_BATCH_SIZE)
