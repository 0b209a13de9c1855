"""The sweep file: defaults < YAML < key=value, into frozen dataclasses, checked once.

OmegaConf reads and merges; pydantic checks types, strictly. Unknown keys are errors.
"""

import dataclasses
import hashlib
import json
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from core.errors import ConfigError
from core.specs.base import Spec, require
from core.specs.baseline_specs import BaselineSpec
from core.specs.benchmark import BenchmarkSpec
from core.specs.inference import HopfieldSpec
from core.specs.run import InferenceSpec, MaskSpec, NetworkSpec, RunSpec
from orchestrator.config.config_errors import explain
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
RECIPE = 2  # goes up when a change of ours gives other masks for the same sweep file
RECIPES = (2, 1)  # whose run folders can be read; only RECIPE trains


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Spec):
    """A whole sweep file.

    name: of the run folder and the MLflow experiment.
    seed: of the base network, permutations, scores and orders: streams of their own, hashed from it.
    baseline: a method to hold supermasks against,
        in their place. search: many runs, one for each
        combination of values; null for a single run.
    data_dir: folder of data sets; None takes SUPSUP_DATA, then the cache, then a download.
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
        expected = "'auto', 'eager' or 'compiled': fused trains in float32 only"
        require(ok, "executor.engine", engine, expected)
        self._check_engine()
        self._fill_evaluation()
        if self.tracking.task_runs is None:
            which: TaskRuns = "all" if self.benchmark.num_tasks <= MAX_TASK_RUNS else "failed"
            object.__setattr__(self, "tracking", dataclasses.replace(self.tracking, task_runs=which))

    def _check_engine(self) -> None:
        engine, kind = self.executor.engine, self.network.kind
        is_eager = self.network.masks_outputs or self.network.is_module or self.baseline is not None
        ok = not is_eager or engine in ("auto", "eager")
        require(ok, "executor.engine", engine, f"'auto' or 'eager' for network {kind!r}")
        ok = self.baseline is None or not self.network.masks_outputs
        require(ok, "baseline", "keys", f"null for network {kind!r}")
        ok = self.mask.rule == "threshold" or engine != "fused"
        require(ok, "executor.engine", engine, "'auto', 'eager' or 'compiled' for mask.rule 'top_k'")

    def _fill_evaluation(self) -> None:
        """Give the evaluation the defaults of what is trained; refuse what does not go with it."""
        evaluation, masks_outputs = self.evaluation, self.network.masks_outputs
        allowed: tuple[Scenario, ...] = ("GG", "GNs", "GNu") if self.training.is_given else ("NNs",)
        if masks_outputs:
            allowed = ("GG", "GNs")
        if self.baseline is not None and self.baseline.kind != "batch_ensemble":
            allowed = ("GG",)
        scenarios = evaluation.scenarios or allowed[:1]
        wrong = [scenario for scenario in scenarios if scenario not in allowed]
        require(not wrong, "evaluation.scenarios", wrong, f"some of: {', '.join(allowed)}")
        inference, hopfield = evaluation.inference, evaluation.hopfield
        if masks_outputs:
            require(inference is None, "evaluation.inference", "keys", "null: masks on outputs are recovered")
            hopfield = hopfield or HopfieldSpec()
        else:
            require(
                hopfield is None, "evaluation.hopfield", "keys", f"null for network {self.network.kind!r}"
            )
            inference = inference or InferenceSpec(objective="G" if self.training.is_given else "H")
        filled = dataclasses.replace(evaluation, scenarios=scenarios, inference=inference, hopfield=hopfield)
        object.__setattr__(self, "evaluation", filled)
        self._check_points()
        self._check_objective()

    def _check_points(self) -> None:
        num_tasks, at = self.benchmark.num_tasks, self.evaluation.at
        ok = self.training.is_given or at in (None, (num_tasks,))
        require(ok, "evaluation.at", at, f"null or [{num_tasks}]: a stream is evaluated at its end")

    def _check_objective(self) -> None:
        classes, outputs = self.benchmark.real_classes, self.network.outputs
        inference = self.evaluation.inference
        if self.evaluation.inferred_scenarios and inference is not None and inference.objective == "G":
            expected = f"'H', or more network.outputs than the {classes} classes: G needs superfluous neurons"
            require(outputs > classes, "evaluation.inference.objective", "G", expected)

    def run_spec(self) -> RunSpec:
        """Return what decides the masks."""
        return RunSpec(
            seed=self.seed,
            benchmark=self.benchmark,
            network=self.network,
            mask=self.mask,
            training=self.training.spec(),
            baseline=self.baseline,
        )


def fingerprint(spec: RunSpec, recipe: int = RECIPE) -> str:
    """Return the sha256 (hex) of what the masks mean.

    ``num_tasks`` counts only without task identity, where every mask depends on the whole stream.
    """
    content = spec.canonical()
    if spec.training.is_given:
        del content["benchmark"]["num_tasks"]
    text = json.dumps({"recipe": recipe, **content}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def load_sweep(path: Path, overrides: typing.Sequence[str] = ()) -> SweepConfig:
    """Read a sweep file and ``key=value`` settings. Raises ConfigError."""
    merged = OmegaConf.merge(_read_yaml(path), _dotlist(overrides))
    try:
        content = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    return build_sweep(content, str(path))


def change_settings(
    config: SweepConfig, overrides: typing.Sequence[str], sections: typing.Collection[str]
) -> SweepConfig:
    """Return ``config`` with ``key=value`` settings. Raises ConfigError on a key outside ``sections``."""
    settings = _dotlist(overrides)
    for key in settings:
        if key not in sections:
            raise ConfigError(
                f"{key}: cannot be changed here, the masks are trained; expected a key of: {', '.join(sections)}"
            )
    merged = OmegaConf.merge(config_values(config), settings)
    return build_sweep(OmegaConf.to_container(merged, resolve=True), "the run's sweep with these settings")


def config_values(config: SweepConfig) -> dict[str, Any]:
    """Return the resolved sweep file, every key spelled out, as plain values."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def dotted_keys(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= dotted_keys(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def set_keys(config: SweepConfig, settings: typing.Mapping[str, Any], source: str) -> SweepConfig:
    """Return ``config`` with values by dotted key; ``source`` is named in errors. Raises ConfigError."""
    values = OmegaConf.create(config_values(config))
    for key, value in settings.items():
        OmegaConf.update(values, key, value)
    return build_sweep(OmegaConf.to_container(values), source)


def build_sweep(content: Any, source: str) -> SweepConfig:
    """Check plain values into a ``SweepConfig``; ``source`` is named in errors."""
    try:
        text = json.dumps(_with_flat_space(content))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: keys must be text and values plain ({error})") from error
    try:
        return TypeAdapter(SweepConfig).validate_json(text)
    except ValidationError as error:
        lines = dict.fromkeys(explain(error, SweepConfig))
        raise ConfigError(f"{source}: " + "\n".join(lines)) from error


def _with_flat_space(content: Any) -> Any:
    """Write nested keys of ``search.space``, as the command line gives them, with dots."""
    search = content.get("search") if isinstance(content, dict) else None
    space = search.get("space") if isinstance(search, dict) else None
    if not isinstance(space, dict):
        return content
    return {**content, "search": {**content["search"], "space": dotted_keys(space)}}


def read_sweep_file(path: Path) -> dict[str, Any]:
    """Return the sweep in a file as it stands there, plain or within a cluster file. Raises ConfigError."""
    return typing.cast(dict[str, Any], OmegaConf.to_container(_read_yaml(path), resolve=True))


def read_cluster_file(path: Path) -> dict[str, Any] | None:
    """Return the Ray cluster configuration that holds the sweep; None for a plain sweep file."""
    content = _read_mapping(path)
    values = typing.cast(dict[str, Any], OmegaConf.to_container(content))
    return values if "cluster_name" in values else None


def _read_yaml(path: Path) -> Any:
    content = _read_mapping(path)
    if "cluster_name" not in content:
        return content
    sweep = OmegaConf.select(content, "metadata.sweep")
    if not OmegaConf.is_dict(sweep):
        raise ConfigError(f"{path} is a Ray cluster configuration without a sweep under metadata.sweep")
    return sweep


def _read_mapping(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"sweep file {path}: {reason}; give the path of a YAML sweep file") from error
    try:
        content = OmegaConf.create(text) if isinstance(yaml.safe_load(text), dict) else None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"sweep file {path} is not valid YAML: {_one_line(error)}") from error
    if not OmegaConf.is_dict(content) or not content:
        raise ConfigError(f"sweep file {path} is empty or not a mapping of keys; see sweeps/ for examples")
    return content


def _dotlist(overrides: typing.Sequence[str]) -> Any:
    for item in overrides:
        key, equals, _ = item.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key):
            raise ConfigError(f"setting {item!r}: expected key=value, such as benchmark.num_tasks=20")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"settings {' '.join(overrides)!r}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
