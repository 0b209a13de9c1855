"""How large cohorts are, what they take, and which engine trains them."""

from dataclasses import dataclass

from core.specs.training import Engine
from core.training.choose_engine import choose_engine
from core.training.memory import cohort_peak_bytes, module_peak_bytes
from orchestrator.runs.run import Run

MAX_AUTO_COHORT_CPU = 8  # a larger batch of tasks gains nothing on a core and delays commits

MEMORY_SHARE = 0.5  # of the memory free now, that all workers' cohorts together may take


def auto_cohort_size(
    num_tasks: int, num_workers: int, free_bytes: int, peak_bytes: int, *, on_gpu: bool
) -> int:
    """Choose how many tasks train together.

    peak_bytes: of one task (``core.training.memory.cohort_peak_bytes``). free_bytes: of one
    device's memory, shared by ``num_workers`` on a CPU, one worker's own on a GPU.
    """
    share = free_bytes * MEMORY_SHARE / (1 if on_gpu else num_workers)
    fits = max(1, int(share // peak_bytes))
    fair = -(-num_tasks // num_workers)
    if not on_gpu:
        return min(fits, fair, MAX_AUTO_COHORT_CPU)
    num_cohorts = -(-fair // fits)  # of equal size, so that the step compiles for one shape
    return -(-fair // num_cohorts)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run may use: workers, and the bytes free on one device now."""

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
    if run.config.network.is_module and not resources.on_gpu:
        return 1  # they train one after another anyway, and each is stored when it is done
    return auto_cohort_size(
        run.config.benchmark.num_tasks,
        resources.num_workers,
        resources.free_bytes,
        peak_bytes(run, 1),
        on_gpu=resources.on_gpu,
    )


def peak_bytes(run: Run, num_tasks: int) -> int:
    """Return the bytes that training ``num_tasks`` tasks together adds to a worker."""
    masks_outputs = run.config.network.masks_outputs
    if run.config.network.is_module:
        return module_peak_bytes(run.config.run_spec(), run.layers, num_tasks)
    return cohort_peak_bytes(run.layers, run.config.training, num_tasks, masks_outputs=masks_outputs)


def _choose_engine(run: Run, resources: Resources) -> Engine:
    wanted = run.config.executor.engine
    if wanted != "auto":
        return wanted
    training = run.config.training
    network, rule = run.config.network, run.config.mask.rule
    if network.masks_outputs or network.is_module or rule == "top_k" or run.config.baseline:
        return "eager"
    weights = sum(layer.num_weights for layer in run.layers)
    flop = 6 * weights * training.batch_size * training.num_steps * run.config.benchmark.num_tasks
    return choose_engine(training, flop, on_gpu=resources.on_gpu)
