"""Makes the executor of a run."""

import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from core.data.datasets import Dataset
from core.own_code.files import code_digest
from core.own_code.permission import code_is_allowed
from orchestrator.cluster.local_ray import LocalExecutor, LocalRay
from orchestrator.config.sweep import SweepConfig
from orchestrator.execution.executor import Executor, InlineExecutor, WorkerFactory
from orchestrator.execution.jobs import WorkerSetup
from orchestrator.runs.dataset import recorded_code
from orchestrator.runs.record import fitting, provenance
from orchestrator.runs.results import test_batches
from orchestrator.runs.run import Run
from orchestrator.runs.sizing import Resources, kept_cohort_size
from storage.run_file import RunRecord

WORKER_IMPORTS = ("orchestrator.worker.worker", "core.training.fused")  # with torch and numba: seconds


def start_ahead(config: SweepConfig, resources: Resources) -> AbstractContextManager[LocalRay | None]:
    """Start or join the Ray that the sweep's executor will want, unless this process is on one already."""
    return _start_ray(config, resources) if _wants_driver(config) else nullcontext()


def _wants_driver(config: SweepConfig) -> bool:
    """Return whether a process of its own should drive Ray; one that answered our questions is left before."""
    if config.executor.kind == "ray" and config.executor.address is not None and ray_is_there():
        from orchestrator.cluster.connect import leave_ray

        leave_ray()
    return config.executor.kind == "ray" and not ray_is_there()


def _start_ray(config: SweepConfig, resources: Resources) -> LocalRay:
    threads, address = config.executor.threads_per_worker, config.executor.address
    return LocalRay(num_cpus=resources.num_workers * threads, num_threads=threads, address=address)


def make_executor(
    run: Run, record: RunRecord, dataset: Dataset, resources: Resources, local: LocalRay | None = None
) -> Executor:
    """Return the executor that the sweep configures; ``ray`` starts or joins a cluster.

    local: a Ray that ``start_ahead`` has started.
    """
    config = run.config.executor
    setup = WorkerSetup(
        spec=run.config.run_spec(),
        layout=run.layout,
        identity=run.identity,
        engine=record.engine,
        device="cuda" if resources.on_gpu else "cpu",
        num_threads=config.threads_per_worker,
        test_batches=test_batches(run),
        cohort_size=kept_cohort_size(run, record.cohort_size),
        fitting=fitting(record),
        provenance=provenance(),
        save_every_s=60 * config.save_every_min,
        code_digests=_code_digests(run, record),
        code_folder=str(Path.cwd()),
    )
    make_worker = partial(_make_worker, setup)
    if config.kind == "inline":
        return InlineExecutor(make_worker, dataset)
    return _make_ray_executor(make_worker, dataset, run.config, resources, local)


def _code_digests(run: Run, record: RunRecord) -> dict[str, str]:
    """Return the digests of the user's own code that the run was made with, of what she allows."""
    recorded = recorded_code(record)
    codes = run.config.run_spec().worker_code
    return {code.key: recorded.get(code.key) or code_digest(code) for code in codes if code_is_allowed(code)}


def ray_is_there() -> bool:
    """Return whether this process has started or joined Ray already."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _make_worker(setup: WorkerSetup, dataset: Dataset) -> Any:
    from orchestrator.worker.worker import Worker  # imports torch: only where jobs run

    return Worker(setup, dataset)


def _make_ray_executor(
    make_worker: WorkerFactory,
    dataset: Dataset,
    config: SweepConfig,
    resources: Resources,
    local: LocalRay | None,
) -> Executor:
    executor, owns = config.executor, local is None
    options: dict[str, Any] = {
        "num_workers": resources.num_workers,
        "gpus_per_worker": resources.gpus_per_worker,
        "threads_per_worker": executor.threads_per_worker,
        "address": executor.address,
        "grows": executor.workers == "auto" and executor.address is not None,
        "job_limit_s": None if executor.job_limit_min is None else 60 * executor.job_limit_min,
        "imports": WORKER_IMPORTS,
    }
    if local is None and _wants_driver(config):
        local = _start_ray(config, resources)
    if local is not None:
        return LocalExecutor(local, make_worker, dataset, owns=owns, **options)
    from orchestrator.cluster.executor import RayExecutor  # imports ray: only when there is work

    return RayExecutor(make_worker, dataset, **options)
