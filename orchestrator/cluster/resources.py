"""The resources of a run: cores, GPUs, free memory."""

import os
import uuid
from pathlib import Path
from typing import Any

import psutil

from core.errors import ConfigError, RunFolderError, first_line
from orchestrator.config.sections import ExecutorConfig
from orchestrator.execution.progress import Display
from orchestrator.runs.arithmetic import arithmetic
from orchestrator.runs.record import package_version
from orchestrator.runs.sizing import Resources
from storage.locations import Location, to_location

UNSEEN_GPU_BYTES = 8 << 30  # assumed free on a remote GPU
PACKAGES = ("torch", "numpy", "numba", "pyarrow")  # that affect the bits of masks, or read files
ANSWER_LIMIT_S = 120.0


def find_resources(executor: ExecutorConfig, *, connect: bool) -> Resources:
    """Resolve ``auto`` workers and GPUs.

    connect: query the Ray cluster at ``executor.address``; otherwise only this machine.
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


def check_nodes(storage_uri: str, display: Display) -> None:
    """Check storage and versions on every node of the joined cluster. Raises ConfigError or RunFolderError.

    Nodes that join later are not checked: jobs that fail there are retried elsewhere.
    """
    from orchestrator.cluster.connect import run_on_each_node  # imports ray

    storage = to_location(storage_uri)
    probe = storage / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        storage.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"supsup")
    except OSError as error:
        raise RunFolderError(
            f"storage.uri: {storage_uri}: cannot be written here ({first_line(error)})"
        ) from error
    try:
        found = run_on_each_node(inspect_node, probe, timeout_s=ANSWER_LIMIT_S)
    finally:
        probe.unlink(missing_ok=True)
    _raise_problems(storage_uri, found)
    for node, versions in found.items():
        own = versions_here()
        differ = [name for name in own if versions[name] != own[name]]
        if differ:
            there, here = (
                ", ".join(f"{name} {one[name]}" if one[name] else f"no {name}" for name in differ)
                for one in (versions, own)
            )
            display.message(
                f"note: node {node} has {there}; this machine has {here}; masks may differ in a few bits"
            )


def inspect_node(probe: Location) -> dict[str, Any]:
    """Return a node's package versions and, as ``storage``, its problem with the storage or None."""
    return {"storage": _storage_problem(probe), **versions_here()}


def versions_here() -> dict[str, str | None]:
    """Return what decides the last bits of masks on this machine: packages, vector instructions and BLAS."""
    return {**{name: package_version(name) for name in PACKAGES}, **arithmetic()}


def _storage_problem(probe: Location) -> str | None:
    try:
        if probe.read_bytes() != b"supsup":
            return "sees another file where this command wrote one"
        own = probe.with_name(f"{probe.name}-{uuid.uuid4().hex[:8]}")
        own.write_bytes(b"")
        own.unlink()
    except FileNotFoundError:
        where = "this path" if isinstance(probe, Path) else "this bucket"
        return f"does not see what this command wrote there: {where} is not shared with it"
    except OSError as error:
        return f"cannot use it ({first_line(error)[:200]})"
    return None


def _raise_problems(storage_uri: str, found: dict[str, Any]) -> None:
    lost = {node: first_line(answer) for node, answer in found.items() if isinstance(answer, Exception)}
    if lost:
        named = "; ".join(f"{node}: {why[:200]}" for node, why in lost.items())
        raise ConfigError(
            f"executor.address: some nodes cannot run supsup: {named}; install the same version there"
        )
    blind = {node: answer["storage"] for node, answer in found.items() if answer["storage"]}
    if blind:
        named = "; ".join(f"node {node} {why}" for node, why in blind.items())
        raise RunFolderError(
            f"storage.uri: {storage_uri}: {named}; expected a path that every node can reach, or s3://BUCKET/PREFIX"
        )
