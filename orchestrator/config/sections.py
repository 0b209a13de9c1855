"""Sections of a sweep file: training, evaluation, executor, storage, tracking."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from core.printing import has_secret, redacted
from core.specs.base import Spec, require
from core.specs.inference import HopfieldSpec, InferenceSpec
from core.specs.training import Engine, TrainingSpec
from storage.locations import is_location
from storage.store import OPTIONS, unknown_options

Auto = Literal["auto"]
TaskRuns = Literal["all", "failed", "none"]
Scenario = Literal["GG", "GNs", "GNu", "NNs"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(TrainingSpec):
    """How the scores of a task are trained.

    cohort_size: tasks trained together and stored as one file; ``auto`` fits them to memory. Not part
        of a run's identity, and fixed once the run folder exists.
    """

    cohort_size: int | Auto = "auto"

    def __post_init__(self) -> None:
        # Not super(): pydantic rebuilds the class, which breaks the zero-argument form.
        TrainingSpec.__post_init__(self)
        size = self.cohort_size
        require(size == "auto" or size >= 1, "training.cohort_size", size, "'auto' or a number >= 1")
        ok = self.transfer == "none" or size in ("auto", 1)
        require(ok, "training.cohort_size", size, "1 with transfer: each task starts from those before it")

    def spec(self) -> TrainingSpec:
        """Return the part that determines the bits of masks."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(TrainingSpec)}
        return TrainingSpec(**own)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Spec):
    """What to measure on the stored masks.

    scenarios: ``GG``: the task is given at test. ``GNs``: it is inferred, and the class must be right.
        ``GNu``: it is inferred, and both task and class must be right. ``NNs``: as GNs, for masks that
        were trained without task ids. None: GG, or NNs without task ids.
    inference: how to infer tasks, for GNs, GNu and NNs.
    hopfield: how to recover masks, for networks with masks on outputs.
    at: numbers of tasks k to evaluate. Those above num_tasks are left out, with a message. None, or if
        all are left out: num_tasks.
    batches: ``all``, or N for the first N test batches of each task.
    """

    scenarios: tuple[Scenario, ...] | None = None
    inference: InferenceSpec | None = None
    hopfield: HopfieldSpec | None = None
    at: tuple[int, ...] | None = None
    batches: int | Literal["all"] = "all"

    def __post_init__(self) -> None:
        ok = self.scenarios is None or bool(self.scenarios)
        require(ok, "evaluation.scenarios", [], "at least one of GG, GNs, GNu, NNs")
        require(all(k >= 1 for k in self.at or ()), "evaluation.at", self.at, "numbers of tasks >= 1")
        ok = self.batches == "all" or self.batches >= 1
        require(ok, "evaluation.batches", self.batches, "'all' or a number >= 1")

    @property
    def method(self) -> InferenceSpec | HopfieldSpec:
        """The method that finds a task, or its mask, at test."""
        method = self.inference or self.hopfield
        assert method is not None, "SweepConfig fills one of the two"
        return method

    @property
    def asked(self) -> tuple[Scenario, ...]:
        """The scenarios to evaluate."""
        assert self.scenarios is not None, "SweepConfig fills them"
        return self.scenarios

    @property
    def inferred_scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios to evaluate in which the task is not given at test."""
        known: tuple[Scenario, ...] = ("GNs", "GNu", "NNs")
        return tuple(scenario for scenario in known if scenario in self.asked)

    def ks(self, num_tasks: int) -> tuple[int, ...]:
        """Return the distinct k to evaluate, ascending; never empty."""
        return tuple(sorted({k for k in self.at or () if k <= num_tasks})) or (num_tasks,)


@dataclass(frozen=True, kw_only=True)
class ExecutorConfig(Spec):
    """Where and how tasks train; not part of a run's identity.

    kind: ``inline`` trains in this process, ``ray`` in Ray actors.
    workers: ``auto`` is as many as there is room for: by GPUs if there are any, otherwise by CPU cores.
    gpus_per_worker: at most 1; with 0.25, four workers share a GPU and its memory. ``auto`` is one if there are
        GPUs that torch can use.
    threads_per_worker: threads that torch uses on a CPU.
    address: address of a running Ray cluster; None starts a local one.
    engine: how a training step runs (``core.training.engine``). ``auto`` is ``fused`` on CPUs and, if the
        run is long enough to repay compiling, ``triton`` on GPUs. A worker that cannot run it takes the
        next best, and says so. Fixed once the run folder exists.
    retries: further attempts after a failure of the infrastructure, such as a lost worker: first of a
        cohort, then of each of its tasks alone. A task that itself fails is not tried again.
    save_every_min: minutes of training between checkpoints of a cohort, so the most that a crash can lose.
        Longer if writing them would take over 2 % of the time.
    job_limit_min: minutes on one job after which a worker counts as lost; None for no limit.
    """

    kind: Literal["inline", "ray"] = "ray"
    workers: int | Auto = "auto"
    gpus_per_worker: float | Auto = "auto"
    threads_per_worker: int = 1
    address: str | None = None
    engine: Engine | Auto = "auto"
    retries: int = 3
    job_limit_min: float | None = None
    save_every_min: float = 0.25

    def __post_init__(self) -> None:
        workers, gpus = self.workers, self.gpus_per_worker
        require(workers == "auto" or workers >= 1, "executor.workers", workers, "'auto' or a number >= 1")
        inline_ok = self.kind == "ray" or workers in ("auto", 1)
        require(inline_ok, "executor.workers", workers, "1 for kind: inline; use kind: ray for more")
        require(gpus == "auto" or gpus >= 0, "executor.gpus_per_worker", gpus, "'auto' or a number >= 0")
        threads = self.threads_per_worker
        require(1 <= threads <= 1024, "executor.threads_per_worker", threads, "a number from 1 to 1024")
        require(0 <= self.retries <= 100, "executor.retries", self.retries, "a number from 0 to 100")
        limit = self.job_limit_min
        require(limit is None or limit > 0, "executor.job_limit_min", limit, "null or a number > 0")
        every = self.save_every_min
        require(0 < every < 1e6, "executor.save_every_min", every, "a number > 0")
        address_ok = self.address is None or self.kind == "ray"
        require(address_ok, "executor.address", self.address, "null for kind: inline")


@dataclass(frozen=True, kw_only=True)
class StorageConfig(Spec):
    """Where run folders are.

    uri: a path that every worker can reach, or ``s3://BUCKET/PREFIX``.
    """

    uri: str = "runs"

    def __post_init__(self) -> None:
        expected = (
            "a path that every worker can reach, or s3://BUCKET/PREFIX; credentials go into the environment"
        )
        require(is_location(self.uri), "storage.uri", redacted(self.uri), expected)
        unknown, scheme = unknown_options(self.uri), self.uri.partition("://")[0]
        expected = f"only these options after ?: {', '.join(OPTIONS.get(scheme, ()))}; credentials go into the environment"
        require(not unknown, "storage.uri", ", ".join(unknown), expected)


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Spec):
    """Which trackers show a run, and whether figures are drawn.

    uri: MLflow's tracking store: ``sqlite:///PATH``, ``http://HOST:PORT`` or a database URI. None: no tracking
        there.
    also: other trackers: ``tensorboard`` and ``wandb`` write files into the run folder, installed packages can bring
        more (``docs/how-to/trackers.md``). None: only MLflow.
    task_runs: which tasks also get a child run. None: all, or only failed ones if there are more than
        5000 tasks.
    figures: whether to draw the report when a run ends, with or without MLflow. ``supsup report`` draws
        it at any time.
    """

    uri: str | None = "sqlite:///runs/mlflow.db"
    task_runs: TaskRuns | None = None
    figures: bool = True
    also: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        also = self.also or ()
        ok = len(set(also)) == len(also) and all(also)
        require(ok, "tracking.also", list(also), "names of trackers, each once")
        require("mlflow" not in also, "tracking.also", "mlflow", "others: tracking.uri is for MLflow")
        known = ("sqlite:///", "http://", "https://", "postgresql", "mysql", "mssql")
        ok = self.uri is None or self.uri.startswith(known)
        expected = "null, sqlite:///PATH, http://HOST:PORT or a database URI"
        require(ok, "tracking.uri", redacted(self.uri or ""), expected)
        expected = (
            "a URI without a password, as it is stored with the run; the environment holds it: MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD, for databases PGPASSFILE and the like"
        )
        require(not has_secret(self.uri or ""), "tracking.uri", redacted(self.uri or ""), expected)
