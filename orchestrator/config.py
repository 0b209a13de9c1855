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
from typing import Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from core.errors import ConfigError
from core.specs import (
    NUM_CLASSES,
    BenchmarkSpec,
    Engine,
    InferenceSpec,
    MaskSpec,
    NetworkSpec,
    RunSpec,
    Spec,
    TrainingSpec,
)
from orchestrator.config_errors import explain

RECIPE = 2  # goes up when a change of ours gives other masks for the same sweep file
RECIPES = (2, 1)  # whose run folders can be read; only RECIPE trains
Auto = Literal["auto"]


def _require(ok: bool, key: str, found: object, expected: str) -> None:
    if not ok:
        raise ConfigError(f"{key}: found {found!r}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(TrainingSpec):
    """``TrainingSpec`` and how many tasks train together; ``auto`` fits them to memory."""

    cohort_size: int | Auto = "auto"

    def __post_init__(self) -> None:
        # Not super(): pydantic rebuilds the class, and the zero-argument form then fails.
        TrainingSpec.__post_init__(self)
        size = self.cohort_size
        _require(size == "auto" or size >= 1, "training.cohort_size", size, "'auto' or a number >= 1")

    def spec(self) -> TrainingSpec:
        """Return the part that decides the bits."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(TrainingSpec)}
        return TrainingSpec(**own)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Spec):
    """What to measure on the stored masks.

    scenarios: ``GG`` the task is given at test; ``GNs`` it is inferred and a right class
        counts; ``GNu`` it is inferred and must be right as well.
    inference: how, for GNs and GNu.
    at: numbers of tasks k; those above num_tasks are left out, aloud. None, or all left
        out: num_tasks.
    batches: ``all``, or N for the first N test batches of each task.
    """

    scenarios: tuple[Literal["GG", "GNs", "GNu"], ...] = ("GG",)
    inference: InferenceSpec = field(default_factory=InferenceSpec)
    at: tuple[int, ...] | None = None
    batches: int | Literal["all"] = "all"

    def __post_init__(self) -> None:
        _require(bool(self.scenarios), "evaluation.scenarios", [], "at least one of GG, GNs, GNu")
        _require(all(k >= 1 for k in self.at or ()), "evaluation.at", self.at, "numbers of tasks >= 1")
        ok = self.batches == "all" or self.batches >= 1
        _require(ok, "evaluation.batches", self.batches, "'all' or a number >= 1")

    @property
    def inferred_scenarios(self) -> tuple[Literal["GNs", "GNu"], ...]:
        """The scenarios asked for in which the task is not given at test."""
        known: tuple[Literal["GNs", "GNu"], ...] = ("GNs", "GNu")
        return tuple(scenario for scenario in known if scenario in self.scenarios)

    def points(self, num_tasks: int) -> tuple[int, ...]:
        """Return the k to evaluate, ascending, each once; never none."""
        return tuple(sorted({k for k in self.at or () if k <= num_tasks})) or (num_tasks,)


@dataclass(frozen=True, kw_only=True)
class ExecutorConfig(Spec):
    """Where and how tasks train; never part of a run's identity.

    kind: ``inline`` trains in this process, ``ray`` in actors.
    workers: ``auto`` is one per CPU core, or per GPU where there are GPUs.
    address: of a running Ray cluster; None starts a local one.
    engine: how a training step runs (``core.engine``); ``auto`` is ``fused`` on CPUs and, where
        the work repays compiling, ``compiled`` on GPUs. Fixed when the run folder is made.
    retries: more attempts after a failure that need not repeat, such as a lost worker.
    """

    kind: Literal["inline", "ray"] = "ray"
    workers: int | Auto = "auto"
    gpus_per_worker: float | Auto = "auto"
    threads_per_worker: int = 1
    address: str | None = None
    engine: Engine | Auto = "auto"
    retries: int = 3

    def __post_init__(self) -> None:
        workers, gpus = self.workers, self.gpus_per_worker
        _require(workers == "auto" or workers >= 1, "executor.workers", workers, "'auto' or a number >= 1")
        inline_ok = self.kind == "ray" or workers in ("auto", 1)
        _require(inline_ok, "executor.workers", workers, "1 for kind: inline; use kind: ray for more")
        _require(gpus == "auto" or gpus >= 0, "executor.gpus_per_worker", gpus, "'auto' or a number >= 0")
        threads = self.threads_per_worker
        _require(1 <= threads <= 1024, "executor.threads_per_worker", threads, "a number from 1 to 1024")
        _require(0 <= self.retries <= 100, "executor.retries", self.retries, "a number from 0 to 100")
        address_ok = self.address is None or self.kind == "ray"
        _require(address_ok, "executor.address", self.address, "null for kind: inline")


@dataclass(frozen=True, kw_only=True)
class StorageConfig(Spec):
    """Folder that holds run folders; every worker must see it at the same path."""

    uri: str = "runs"

    def __post_init__(self) -> None:
        ok = bool(self.uri.strip()) and "://" not in self.uri
        _require(ok, "storage.uri", self.uri, "a path on a file system that every worker sees")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Spec):
    """MLflow's tracking store; ``uri: null`` means no tracking.

    task_runs: which tasks also get a child run of their own.
    """

    uri: str | None = "sqlite:///runs/mlflow.db"
    task_runs: Literal["all", "failed", "none"] = "none"

    def __post_init__(self) -> None:
        known = ("sqlite:///", "http://", "https://", "postgresql", "mysql", "mssql")
        ok = self.uri is None or self.uri.startswith(known)
        _require(ok, "tracking.uri", self.uri, "null, sqlite:///PATH, http://HOST:PORT or a database URI")


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Spec):
    """A whole sweep file.

    name: of the run folder and the MLflow experiment. search: none yet, so null.
    data_dir: folder of data sets; None takes SUPSUP_DATA, then the cache, then a download.
    """

    name: str
    seed: int = 0
    benchmark: BenchmarkSpec
    network: NetworkSpec
    mask: MaskSpec = field(default_factory=MaskSpec)
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    executor: ExecutorConfig = ExecutorConfig()
    storage: StorageConfig = StorageConfig()
    tracking: TrackingConfig = TrackingConfig()
    search: None = None
    data_dir: str | None = None

    def __post_init__(self) -> None:
        ok = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name) is not None
        _require(ok, "name", self.name, "at most 100 letters, digits, '.', '_' or '-'")
        self.run_spec()
        engine = self.executor.engine
        ok = engine != "fused" or self.training.is_float32
        expected = "'auto', 'eager' or 'compiled': fused trains in float32 only"
        _require(ok, "executor.engine", engine, expected)
        classes, outputs = NUM_CLASSES[self.benchmark.dataset], self.network.outputs
        if self.evaluation.inferred_scenarios and self.evaluation.inference.objective == "G":
            expected = f"'H', or more network.outputs than the {classes} classes: G needs superfluous neurons"
            _require(outputs > classes, "evaluation.inference.objective", "G", expected)

    def run_spec(self) -> RunSpec:
        """Return what decides the masks."""
        return RunSpec(
            seed=self.seed,
            benchmark=self.benchmark,
            network=self.network,
            mask=self.mask,
            training=self.training.spec(),
        )


def fingerprint(spec: RunSpec, recipe: int = RECIPE) -> str:
    """Return the sha256 (hex) of what the masks mean; ``num_tasks`` does not count."""
    content = spec.canonical()
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


def build_sweep(content: Any, source: str) -> SweepConfig:
    """Check plain values into a ``SweepConfig``; ``source`` is named in errors."""
    try:
        text = json.dumps(content)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: keys must be text and values plain ({error})") from error
    try:
        return TypeAdapter(SweepConfig).validate_json(text)
    except ValidationError as error:
        lines = dict.fromkeys(explain(error, SweepConfig))
        raise ConfigError(f"{source}: " + "\n".join(lines)) from error


def _read_yaml(path: Path) -> Any:
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
    if "cluster_name" in content and OmegaConf.select(content, "metadata.sweep") is not None:
        return content.metadata.sweep  # a Ray cluster configuration that carries the sweep
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
