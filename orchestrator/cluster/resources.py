"""What there is to run on: cores, GPUs, free memory."""

import os
from pathlib import Path

import psutil

from orchestrator.config.sections import ExecutorConfig
from orchestrator.runs.run import Resources

UNSEEN_GPU_BYTES = 8 << 30  # assumed free on a GPU that this machine cannot ask


def find_resources(executor: ExecutorConfig, *, connect: bool) -> Resources:
    """Resolve ``auto`` workers and GPUs.

    connect: ask the Ray cluster at ``executor.address``; else look at this machine only.
    """
    num_cpus, num_gpus = len(os.sched_getaffinity(0)), _local_gpus()
    if connect and executor.address is not None:
        from orchestrator.cluster.connect import cluster_size

        num_cpus, num_gpus = cluster_size(executor.address)
    gpus = executor.gpus_per_worker
    gpus_per_worker = float(num_gpus > 0) if gpus == "auto" else float(gpus)
    return Resources(
        num_workers=_num_workers(executor, num_cpus, num_gpus, gpus_per_worker),
        gpus_per_worker=gpus_per_worker,
        free_bytes=_gpu_free_bytes() if gpus_per_worker else psutil.virtual_memory().available,
    )


def _num_workers(executor: ExecutorConfig, num_cpus: int, num_gpus: int, gpus_per_worker: float) -> int:
    if executor.kind == "inline":
        return 1
    if executor.workers != "auto":
        return executor.workers
    if gpus_per_worker:
        return max(1, int(num_gpus / gpus_per_worker))
    return max(1, num_cpus // executor.threads_per_worker)


def _local_gpus() -> int:
    return len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()])


def _gpu_free_bytes() -> int:
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else UNSEEN_GPU_BYTES
