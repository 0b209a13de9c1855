"""The workers, memory, cohort size and training engine of a run; pure arithmetic on what was found."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.families import family_of
from core.specs.training import Engine
from core.training.choose_engine import choose_engine
from orchestrator.runs.run import Run

MAX_AUTO_COHORT_CPU = 8  # a larger batch of tasks gains nothing on a core and delays commits
MAX_AUTO_COHORT_TRITON = 500  # fills a GPU; two workers on it then draw, test and store beside each other

MEMORY_SHARE = 0.5  # of the free memory, for the cohorts of all workers together
ROUNDING = 1e-9  # 1 / 0.1 may be 9.99999... in floating point


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device of a worker, as found where workers run.

    name: of the GPU, ``cpu`` without one; None if it is not known. free_bytes: of its memory. has_compiler,
    has_triton: what ``torch.compile`` needs. told_by: the host that said so, None if it is an assumption.
    """

    name: str | None
    free_bytes: int
    has_compiler: bool
    has_triton: bool
    told_by: str | None = None

    def can_compile(self, *, on_gpu: bool) -> bool:
        """Return whether ``torch.compile`` can work there."""
        return self.has_compiler and (not on_gpu or self.has_triton)

    def __str__(self) -> str:
        if self.told_by is None:
            return f"{self.free_bytes / 1e9:,.1f} GB free, which is assumed: no worker has been asked yet"
        return f"{self.name}, {self.free_bytes / 1e9:,.1f} GB free"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources of a run.

    device: of a worker; that with the least memory if they differ. workers_per_device: those that share
    its memory. note: for the user.
    """

    num_workers: int
    gpus_per_worker: float
    device: Device
    workers_per_device: int = 1
    note: str | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether workers hold a GPU."""
        return self.gpus_per_worker > 0

    @property
    def worker_bytes(self) -> int:
        """The free memory of one worker."""
        return self.device.free_bytes // self.workers_per_device

    def planned_for(self) -> dict[str, Any]:
        """Return, for the run's record, what its engine and cohort size follow from."""
        return {**asdict(self.device), "workers_per_device": self.workers_per_device}


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, as the scheduler counts it."""

    num_cpus: float
    num_gpus: float = 0.0


def workers_per_gpu(gpus_each: float) -> int:
    """Return how many workers share a GPU: a worker holds one GPU or a part of one, never parts of two."""
    return math.floor(1 / gpus_each + ROUNDING)


def workers_on(node: Node, cpus_each: float, gpus_each: float) -> int:
    """Return how many workers a machine has room for."""
    by_cpus = math.floor(node.num_cpus / cpus_each + ROUNDING) if math.isfinite(node.num_cpus) else None
    if not gpus_each:
        return by_cpus or 0
    by_gpus = math.floor(node.num_gpus) * workers_per_gpu(gpus_each)
    return by_gpus if by_cpus is None else min(by_cpus, by_gpus)


def workers_in_all(nodes: Sequence[Node], cpus_each: float, gpus_each: float) -> int:
    """Return how many workers a cluster has room for; none lies on two machines."""
    return sum(workers_on(node, cpus_each, gpus_each) for node in nodes)


def auto_cohort_size(
    num_tasks: int,
    num_workers: int,
    worker_bytes: int,
    peak_bytes: int,
    *,
    on_gpu: bool,
    gpu_limit: int | None = None,
) -> int:
    """Return the number of tasks that train together.

    worker_bytes: the free memory of one worker. peak_bytes: of one task. gpu_limit: of tasks, on a GPU.
    """
    fits = max(1, int(worker_bytes * MEMORY_SHARE // peak_bytes))
    most = min(fits, (gpu_limit or fits) if on_gpu else MAX_AUTO_COHORT_CPU)
    fair = -(-num_tasks // num_workers)
    # Of equal size: workers end together, and on a GPU the step compiles for one shape.
    return -(-fair // -(-fair // most))


def cohort_size(run: Run, resources: Resources) -> int:
    """Return the configured cohort size, ``auto`` resolved against free memory."""
    training = run.config.training
    if training.transfer != "none":
        return 1
    if training.cohort_size != "auto":
        return training.cohort_size
    if not (run.config.network.traits.cohorts_on_cpu or resources.on_gpu):
        return 1  # they train one after another anyway, and each is stored once trained
    return auto_cohort_size(
        run.config.benchmark.num_tasks,
        resources.num_workers,
        resources.worker_bytes,
        peak_bytes(run, 1),
        on_gpu=resources.on_gpu,
        gpu_limit=MAX_AUTO_COHORT_TRITON if run_engine(run, resources) == "triton" else None,
    )


def kept_cohort_size(run: Run, recorded: int) -> int:
    """Return the cohort size of a run that exists: the one asked for, else the one it was made with."""
    wanted = run.config.training.cohort_size
    return recorded if wanted == "auto" else wanted


def peak_bytes(run: Run, num_tasks: int) -> int:
    """Return the bytes that training ``num_tasks`` tasks together adds to a worker."""
    spec = run.config.run_spec()
    return family_of(spec.network).peak_bytes(spec, run.layers, num_tasks)


def run_engine(run: Run, resources: Resources) -> Engine:
    """Return the configured engine, with ``auto`` resolved."""
    wanted = run.config.executor.engine
    if wanted != "auto":
        return wanted
    training, engines = run.config.training, run.config.network.traits.engines
    if engines == ("eager",) or run.config.mask.rule == "top_k" or run.config.baseline:
        return "eager"
    weights = sum(layer.num_weights for layer in run.layers)
    flop = 6 * weights * training.batch_size * training.num_steps * run.config.benchmark.num_tasks
    on_gpu = resources.on_gpu
    can_compile = resources.device.can_compile(on_gpu=on_gpu)
    return choose_engine(training, flop, on_gpu=on_gpu, can_compile=can_compile)
