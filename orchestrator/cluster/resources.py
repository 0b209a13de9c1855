"""The resources of a run: cores, GPUs, free memory; and whether all nodes can run it."""

import math
import os
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import ConfigError, RunFolderError, first_line
from orchestrator.cluster.devices import (
    ANSWER_LIMIT_S,
    Gpu,
    ask_process,
    assumed_device,
    find_device,
    least_of,
    local_gpus,
    unopened_device,
)
from orchestrator.config.sections import ExecutorConfig
from orchestrator.execution.progress import Display
from orchestrator.runs.arithmetic import arithmetic
from orchestrator.runs.record import package_version
from orchestrator.runs.sizing import Device, Node, Resources, workers_on, workers_per_gpu
from storage.locations import Location, to_location, utf8_path

PACKAGES = ("torch", "numpy", "numba", "pyarrow")  # that affect the bits of masks, or read files


def find_resources(executor: ExecutorConfig, *, connect: bool) -> Resources:
    """Resolve ``auto`` workers and GPUs.

    connect: query the Ray cluster at ``executor.address``, and ask a process like a worker's about its device;
    otherwise look at this machine alone, without opening a GPU. Raises ConfigError.
    """
    if executor.kind == "ray":
        utf8_path(Path.cwd(), "Ray cannot start in this folder, so change to another one, or rename it")
    nodes = _cluster(executor) if connect and executor.address is not None else None
    gpus = local_gpus() if nodes is None else []
    num_gpus = len(gpus) if nodes is None else sum(node.num_gpus for node in nodes)
    gpus_each, note = _gpus_each(executor, has_gpus=num_gpus >= 1), None
    if gpus_each:
        device, note = _gpu(executor, gpus, gpus_each, connect=connect, in_cluster=nodes is not None)
        if device is not None:
            # Without a cluster, Ray is started with as many CPUs as the workers hold.
            return _resources(executor, nodes or [Node(math.inf, num_gpus)], gpus_each, device, note)
        note = _only_cpus(executor, gpus_each, note)
    device = find_device(on_gpu=False)
    if nodes is not None:
        device = least_of(_ask_cluster(executor, 0.0))[0] or device
    return _resources(executor, nodes or [Node(len(os.sched_getaffinity(0)))], 0.0, device, note)


def _cluster(executor: ExecutorConfig) -> list[Node]:
    from orchestrator.cluster.connect import cluster_nodes

    return cluster_nodes(str(executor.address))


def _gpus_each(executor: ExecutorConfig, *, has_gpus: bool) -> float:
    gpus = float(has_gpus) if executor.gpus_per_worker == "auto" else float(executor.gpus_per_worker)
    if gpus > 1:
        raise ConfigError(
            f"executor.gpus_per_worker: found {gpus:g}, expected 1 or a part of 1: a worker trains on one GPU and would "
            "leave the others idle"
        )
    return gpus


def _gpu(
    executor: ExecutorConfig, gpus: Sequence[Gpu], gpus_each: float, *, connect: bool, in_cluster: bool
) -> tuple[Device | None, str | None]:
    """Return a worker's GPU, None if torch sees none there, and what the user should know."""
    if not connect:
        return unopened_device(gpus), None
    answers = _ask_cluster(executor, gpus_each) if in_cluster else [ask_process()]
    device, why = least_of(answers)
    if device is None and all(isinstance(one, Exception) for one in answers):
        why = why or "no node with one has joined"
        return assumed_device(), f"note: no GPU could be asked for its memory ({why}); 8 GiB are assumed free"
    return device, why


def _only_cpus(executor: ExecutorConfig, gpus_each: float, why: str | None) -> str:
    """Return the note that GPUs cannot be used; raise ConfigError if the user asked for them."""
    if executor.gpus_per_worker != "auto":
        raise ConfigError(
            f"executor.gpus_per_worker: found {gpus_each:g}, but {why}; install a torch with CUDA there, or set it to 0"
        )
    return f"note: there are GPUs, but {why}; tasks train on CPUs"


def _ask_cluster(executor: ExecutorConfig, gpus_each: float) -> list[Device | Exception]:
    """Ask a process on each node that has room for a worker, one that holds the GPU of a worker."""
    from orchestrator.cluster.connect import run_on_each_node

    found = run_on_each_node(
        partial(find_device, on_gpu=gpus_each > 0),
        timeout_s=ANSWER_LIMIT_S,
        num_gpus=gpus_each,
        has_room=lambda node: workers_on(node, executor.threads_per_worker, gpus_each) > 0,
    )
    return list(found.values())


def _resources(
    executor: ExecutorConfig, nodes: Sequence[Node], gpus_each: float, device: Device, note: str | None
) -> Resources:
    """Return the workers that ``nodes`` have room for, and how many share the memory of a device."""
    rooms = [workers_on(node, executor.threads_per_worker, gpus_each) for node in nodes]
    num_workers = max(1, sum(rooms)) if executor.workers == "auto" else executor.workers
    num_workers = 1 if executor.kind == "inline" else num_workers
    # On one machine all, even if some have to wait for room: Ray is started here with enough for all.
    on_a_node = num_workers if len(nodes) == 1 else min(num_workers, max(1, *rooms))
    return Resources(
        num_workers=num_workers,
        gpus_per_worker=gpus_each,
        device=device,
        workers_per_device=workers_per_gpu(gpus_each) if gpus_each else on_a_node,
        note=note,
    )


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
