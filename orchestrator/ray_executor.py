"""Jobs on Ray actors: one job per actor at a time, dead actors replaced by Ray.

The data set goes through the object store once per node, without a copy per worker.
What a failure means is decided by the controller; Ray's own task retries stay off.
"""

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from core.errors import ConfigError, SupSupError, first_line
from orchestrator.executors import WorkerFactory, WorkerLike
from orchestrator.jobs import Job, JobResult, Outcome

# Before ray is imported: no usage reports, no rewriting of device variables, quiet start.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import RayError, RayTaskError

PROBE_LIMIT_S = 10.0
# ray itself too: whoever else needs it takes it from here, after the lines above.
__all__ = ["LostWorkerError", "RayExecutor", "cluster_size", "ray", "run_in_parallel", "start_ray"]


class LostWorkerError(SupSupError):
    """A worker died or became unreachable during a job; worth another attempt."""


class _Actor:
    """Holds one worker; built at its first job, so that its errors are that job's errors."""

    def __init__(self, make_worker: WorkerFactory) -> None:
        self._make_worker = make_worker
        self._worker: WorkerLike | None = None

    def run(self, job: Job, shared: Any) -> JobResult:
        """Do ``job``. ``shared`` comes from the object store, read-only and not copied."""
        if self._worker is None:
            self._worker = self._make_worker(shared)
        return self._worker.run(job)


class RayExecutor:
    """Keeps the contract of ``orchestrator.executors`` on a local or remote Ray."""

    def __init__(
        self,
        make_worker: WorkerFactory,
        shared: Any,
        *,
        num_workers: int,
        gpus_per_worker: float,
        threads_per_worker: int,
        address: str | None,
    ) -> None:
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            start_ray(address, num_cpus=num_workers * threads_per_worker)
        actor = ray.remote(_Actor).options(
            num_cpus=threads_per_worker,
            num_gpus=gpus_per_worker,
            max_restarts=-1,
            max_task_retries=0,
            runtime_env={"env_vars": _thread_variables(threads_per_worker)},
        )
        # Goes with each job, not with the actor: one that Ray restarts has it again.
        self._shared = ray.put(shared)
        self._idle = {f"worker-{i}": actor.remote(make_worker) for i in range(num_workers)}
        self._busy: dict[Any, tuple[str, Any, Job]] = {}
        self.num_slots = num_workers

    def submit(self, job: Job, *, avoid: str | None = None) -> None:
        """Send ``job`` to an idle actor, to another than ``avoid`` where one is idle."""
        name = next((name for name in self._idle if name != avoid), avoid)
        assert name is not None, "submit was called with no slot free"
        handle = self._idle.pop(name)
        self._busy[handle.run.remote(job, self._shared)] = (name, handle, job)

    def collect(self, timeout_s: float) -> list[Outcome]:
        """Return the jobs that ended, waiting up to ``timeout_s`` for the first."""
        if not self._busy:
            return []
        first, _ = ray.wait(list(self._busy), num_returns=1, timeout=timeout_s)
        if not first:
            return []
        ready, _ = ray.wait(list(self._busy), num_returns=len(self._busy), timeout=0)
        return [self._outcome(reference) for reference in ready]

    def close(self) -> None:
        """End the actors without waiting for their jobs, and the Ray that this started."""
        for handle in [*self._idle.values(), *(handle for _, handle, _ in self._busy.values())]:
            ray.kill(handle)
        self._idle.clear()
        self._busy.clear()
        self._shared = None
        if self._owns_ray:
            ray.shutdown()
            self._owns_ray = False

    def _outcome(self, reference: Any) -> Outcome:
        name, handle, job = self._busy.pop(reference)
        # First in line again: jobs that go one after another stay with the worker that knows them.
        self._idle = {name: handle, **self._idle}
        found = _result_or_error(reference, name)
        if isinstance(found, Exception):
            return Outcome(job=job, worker=name, error=found)
        return Outcome(job=job, worker=name, result=found)


def run_in_parallel(
    work: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    num_workers: int,
    gpus_per_worker: float,
    threads_per_worker: int,
    address: str | None,
) -> Iterator[tuple[int, Any]]:
    """Call ``work`` on each item, ``num_workers`` at a time; yield (index, result or error) as they end.

    A worker that is lost takes its item with it: that is an error of the item.
    """
    owns_ray = not ray.is_initialized()
    if owns_ray:
        start_ray(address, num_cpus=num_workers * threads_per_worker)
    remote = ray.remote(_call).options(
        num_cpus=threads_per_worker,
        num_gpus=gpus_per_worker,
        max_retries=0,
        runtime_env={"env_vars": _thread_variables(threads_per_worker)},
    )
    waiting: list[tuple[int, Any]] = list(enumerate(items))
    out: dict[Any, int] = {}
    try:
        while waiting or out:
            while waiting and len(out) < num_workers:
                index, item = waiting.pop(0)
                out[remote.remote(work, item)] = index
            (ready, *_), _ = ray.wait(list(out), num_returns=1)
            yield out.pop(ready), _result_or_error(ready, "the worker")
    finally:
        if owns_ray:
            ray.shutdown()


def _call(work: Callable[[Any], Any], item: Any) -> Any:
    return work(item)


def _result_or_error(reference: Any, worker: str) -> Any:
    """Return what a call gave, or the error it ended with."""
    try:
        return ray.get(reference)
    except RayTaskError as error:  # first: it is also an instance of the worker's own class
        return error.cause if isinstance(error.cause, Exception) else error
    except RayError as error:
        return LostWorkerError(f"{worker} was lost: {first_line(error)}")


def _thread_variables(num_threads: int) -> dict[str, str]:
    return {name: str(num_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def cluster_size(address: str) -> tuple[int, int]:
    """Return the CPUs and GPUs of the Ray cluster at ``address``, connecting to it."""
    if not ray.is_initialized():
        start_ray(address, num_cpus=0)
    total = ray.cluster_resources()
    return int(total.get("CPU", 0)), int(total.get("GPU", 0))


def start_ray(address: str | None, *, num_cpus: int) -> None:
    """Start a Ray of this machine alone, or join the one at ``address``. Raises ConfigError."""
    if address is None:
        # "local": without it ray.init would join any cluster it finds on this machine.
        _init(address="local", num_cpus=num_cpus, include_dashboard=False, _node_ip_address="127.0.0.1")
        return
    try:
        _probe(address)
        _init(address=address)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = first_line(error)[:200]
        raise ConfigError(
            f"executor.address: found {address!r}, no Ray cluster answers there ({reason}); "
            "start one with `ray start --head` (a cluster with a token wants RAY_AUTH_MODE=token here "
            "too), or set executor.address=null"
        ) from error


def _init(**options: Any) -> None:
    """Call ``ray.init``, quietly, and put back the SIGTERM handler that it replaces."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    if in_main_thread:
        signal.signal(signal.SIGTERM, handler)


def _probe(address: str) -> None:
    """Raise OSError when nothing listens: Ray itself would go on asking for minutes."""
    match = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address)
    if match is not None:
        socket.create_connection((match[1], int(match[2])), timeout=PROBE_LIMIT_S).close()
