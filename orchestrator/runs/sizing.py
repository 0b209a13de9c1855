"""The cohort size, memory and training engine of a run."""

from dataclasses import dataclass

from core.families import family_of
from core.specs.training import Engine
from core.training.choose_engine import choose_engine
from orchestrator.runs.run import Run

MAX_AUTO_COHORT_CPU = 8  # a larger batch of tasks gains nothing on a core and delays commits
MAX_AUTO_COHORT_TRITON = 500  # fills a GPU; two workers on it then draw, test and store beside each other

MEMORY_SHARE = 0.5  # of the free memory, for the cohorts of all workers together


def auto_cohort_size(
    num_tasks: int,
    num_workers: int,
    free_bytes: int,
    peak_bytes: int,
    *,
    on_gpu: bool,
    most: int | None = None,
) -> int:
    """Return the number of tasks that train together.

    peak_bytes: of one task. free_bytes: of one device; shared by all workers on a CPU, one worker's own
    on a GPU. most: limit on a GPU.
    """
    share = free_bytes * MEMORY_SHARE / (1 if on_gpu else num_workers)
    fits = max(1, int(share // peak_bytes))
    limit = most if on_gpu else MAX_AUTO_COHORT_CPU
    most = min(fits, limit or fits)
    fair = -(-num_tasks // num_workers)
    # Of equal size: workers end together, and on a GPU the step compiles for one shape.
    return -(-fair // -(-fair // most))


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources of a run: workers, and the bytes free on one device."""

    num_workers: int
    gpus_per_worker: float
    free_bytes: int

    @property
    def on_gpu(self) -> bool:
        """Whether workers hold a GPU."""
        return self.gpus_per_worker > 0


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
        resources.free_bytes,
        peak_bytes(run, 1),
        on_gpu=resources.on_gpu,
        most=MAX_AUTO_COHORT_TRITON if run_engine(run, resources) == "triton" else None,
    )


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
    return choose_engine(training, flop, on_gpu=resources.on_gpu)
