"""The whole sweep file as a frozen dataclass, and the fingerprint of a run."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field

from core.networks.base import norm_layers
from core.specs.base import Spec, require
from core.specs.benchmark import BenchmarkSpec
from core.specs.inference import STATISTICS, HopfieldSpec, InferenceSpec
from core.specs.network import MaskSpec, NetworkSpec
from core.specs.run import BaselineSpec, RunSpec
from orchestrator.config.search import SearchConfig
from orchestrator.config.sections import (
    EvaluationConfig,
    ExecutorConfig,
    Scenario,
    StorageConfig,
    TaskRuns,
    TrackingConfig,
    TrainingConfig,
)

MAX_TASK_RUNS = 5000  # by default; MLflow's pages get slow beyond
RECIPE = 2  # increases when our code makes other masks from the same sweep file
RECIPES = (2, 1)  # readable run folders; only RECIPE trains


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Spec):
    """A whole sweep file.

    name: name of the run folder and of the MLflow experiment.
    seed: seeds the base network, permutations, scores and orders, each with a random stream of its own.
    baseline: a method to compare supermasks with, trained instead of them.
    search: many runs, one for each combination of values; None for a single run.
    data_dir: folder of data sets. None: SUPSUP_DATA, then the cache, then a download.
    """

    name: str
    seed: int = 0
    benchmark: BenchmarkSpec
    network: NetworkSpec
    mask: MaskSpec = field(default_factory=MaskSpec)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    baseline: BaselineSpec | None = None
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    search: SearchConfig | None = None
    data_dir: str | None = None

    def __post_init__(self) -> None:
        ok = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name) is not None
        require(ok, "name", self.name, "at most 100 letters, digits, '.', '_' or '-'")
        self.run_spec()
        engine = self.executor.engine
        ok = engine != "fused" or self.training.is_float32
        expected = "'auto' or another engine: fused trains in float32 only"
        require(ok, "executor.engine", engine, expected)
        self._check_engine()
        self._fill_evaluation()
        if self.tracking.task_runs is None:
            which: TaskRuns = "all" if self.benchmark.num_tasks <= MAX_TASK_RUNS else "failed"
            object.__setattr__(self, "tracking", dataclasses.replace(self.tracking, task_runs=which))

    def _check_engine(self) -> None:
        engine, kind = self.executor.engine, self.network.kind
        traits = self.network.traits
        engines = traits.engines if self.baseline is None else ("eager",)
        ok = engine in ("auto", *engines)
        require(ok, "executor.engine", engine, f"'auto' or 'eager' for network {kind!r}")
        ok = self.baseline is None or traits.baselines
        require(ok, "baseline", "keys", f"null for network {kind!r}")
        ok = self.mask.rule == "threshold" or engine not in {"fused", "triton"}
        require(ok, "executor.engine", engine, "'auto', 'eager' or 'compiled' for mask.rule 'top_k'")

    def _fill_evaluation(self) -> None:
        """Fill in the defaults of the evaluation; raise ConfigError if it does not fit the training."""
        evaluation, in_memory = self.evaluation, self.network.traits.in_memory
        allowed: tuple[Scenario, ...] = ("GG", "GNs", "GNu") if self.training.is_given else ("NNs",)
        if in_memory:
            allowed = ("GG", "GNs")
        if self.baseline is not None and self.baseline.kind != "batch_ensemble":
            allowed = ("GG",)
        scenarios = evaluation.scenarios or allowed[:1]
        wrong = [scenario for scenario in scenarios if scenario not in allowed]
        require(not wrong, "evaluation.scenarios", wrong, f"some of: {', '.join(allowed)}")
        inference, hopfield = evaluation.inference, evaluation.hopfield
        if in_memory:
            require(inference is None, "evaluation.inference", "keys", "null: masks on outputs are recovered")
            hopfield = hopfield or HopfieldSpec()
        else:
            require(
                hopfield is None, "evaluation.hopfield", "keys", f"null for network {self.network.kind!r}"
            )
            inference = inference or InferenceSpec(objective="G" if self.training.is_given else "H")
        filled = dataclasses.replace(evaluation, scenarios=scenarios, inference=inference, hopfield=hopfield)
        object.__setattr__(self, "evaluation", filled)
        self._check_ks()
        self._check_objective()

    def _check_ks(self) -> None:
        num_tasks, at = self.benchmark.num_tasks, self.evaluation.at
        ok = self.training.is_given or at in (None, (num_tasks,))
        require(ok, "evaluation.at", at, f"null or [{num_tasks}]: a stream is evaluated at its end")

    def _check_objective(self) -> None:
        if not self.benchmark.is_settled:
            return
        classes, outputs = self.benchmark.real_classes, self.network.outputs
        inference = self.evaluation.inference
        if self.evaluation.inferred_scenarios and inference is not None and inference.objective == "G":
            expected = f"'H', or more network.outputs than the {classes} classes: G needs superfluous neurons"
            require(outputs > classes, "evaluation.inference.objective", "G", expected)
        compares = inference is not None and inference.objective in STATISTICS
        if inference is not None and compares and self.network.import_path is None:
            ok = bool(norm_layers(self.network, self.benchmark.channels_first))
            expected = f"H, G or E for network {self.network.kind!r}, which has no batch normalisation"
            require(ok, "evaluation.inference.objective", inference.objective, expected)

    @property
    def can_answer(self) -> bool:
        """Whether the run can classify single images: each task has a mask on weights."""
        return self.baseline is None and self.training.is_given and self.evaluation.hopfield is None

    def run_spec(self) -> RunSpec:
        """Return the part that determines the masks."""
        return RunSpec(
            seed=self.seed,
            benchmark=self.benchmark,
            network=self.network,
            mask=self.mask,
            training=self.training.spec(),
            baseline=self.baseline,
        )


def fingerprint(spec: RunSpec, recipe: int = RECIPE) -> str:
    """Return the sha256 (hex) of everything that determines the masks.

    ``num_tasks`` is included only without task identity, where every mask depends on the whole stream.
    """
    content = spec.canonical()
    if spec.training.is_given:
        del content["benchmark"]["num_tasks"]
    text = json.dumps({"recipe": recipe, **content}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
