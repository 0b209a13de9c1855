"""Starting and joining Ray. All other modules import Ray from here.

A Ray started here is private to this machine and user: its ports are on loopback, its folder is private, with a
token (``orchestrator.cluster.auth``), without dashboard and usage reports.
"""

import atexit
import logging
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any

from core.errors import ConfigError, WorkerError, first_line
from core.rooms import PROJECT
from orchestrator.cluster.auth import (
    ensure_token,
    is_about_token,
    token_error,
    token_header,
    use_token_if_any,
)
from orchestrator.cluster.ray_folder import OPEN, make_ray_folder
from orchestrator.runs.sizing import Node

# Before importing ray: no usage reports, device variables left alone, the token.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
_token_enabled = use_token_if_any()

import grpc
import ray
from ray import job_submission
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

if _token_enabled:  # the `ray` command has already read the variables
    ray._raylet.Config.initialize("")  # noqa: SLF001  # as Ray itself does

# Processes of a head node that a run on one machine has no use for: the dashboard's, though it is off, the
# autoscaler's, and the one that prints the workers' logs. Each costs a second of start-up.
UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")
LOOPBACK = "127.0.0.1"
PROBE_LIMIT_S = 10.0
PROBE_METHOD = "/ray.rpc.NodeInfoGcsService/GetClusterId"
# Includes ray itself, so that it is imported after the lines above.
__all__ = [
    "cluster_nodes",
    "ended_processes",
    "free_resources",
    "is_canceled",
    "job_submission",
    "leave_ray",
    "live_nodes",
    "own_error",
    "ray",
    "run_on_each_node",
    "start_ray",
    "thread_variables",
]


_asked: set[str] = set()  # the address that ``cluster_nodes`` has connected to


def cluster_nodes(address: str) -> list[Node]:
    """Connect to the Ray cluster at ``address``, until ``leave_ray``, and return its live nodes."""
    if not ray.is_initialized():
        start_ray(address, num_cpus=0)
        _asked.add(address)
    return live_nodes()


def leave_ray() -> None:
    """Leave the cluster that ``cluster_nodes`` has connected to; one that somebody else joined stays."""
    if _asked:
        _asked.clear()
        ray.shutdown()


def live_nodes() -> list[Node]:
    """Return the live nodes of the cluster that this process is connected to."""
    return [_node(one) for one in ray.nodes() if one["Alive"]]


def _node(described: dict[str, Any]) -> Node:
    total = described["Resources"]
    return Node(total.get("CPU", 0.0), total.get("GPU", 0.0))


def free_resources() -> str:
    """Return a sentence with the total and free CPUs and GPUs of the cluster."""
    total, free = ray.cluster_resources(), ray.available_resources()
    parts = [f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU")]
    return f"the cluster has {' and '.join(parts)} free"


def ended_processes() -> list[str]:
    """Return which processes of a Ray that was started here have ended, such as its raylet."""
    node: Any = ray._private.worker._global_node  # noqa: SLF001  # there is no public way
    return [] if node is None else [str(kind) for kind, _ in node.dead_processes()]


def run_on_each_node(
    work: Callable[..., Any],
    *arguments: Any,
    timeout_s: float,
    num_gpus: float = 0.0,
    has_room: Callable[[Node], bool] = lambda _: True,
) -> dict[str, Any]:
    """Call ``work`` once on every live node that ``has_room``; return its result or error by node.

    num_gpus: that the call holds. A call that has not begun after ``timeout_s`` is taken back.
    """
    remote, calls = ray.remote(_call), {}
    for node in ray.nodes():
        if node["Alive"] and has_room(_node(node)):
            where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = remote.options(num_cpus=0, num_gpus=num_gpus, max_retries=0, scheduling_strategy=where)
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            calls[name] = options.remote(work, *arguments)
    if not calls:
        return {}
    ready, late = ray.wait(list(calls.values()), num_returns=len(calls), timeout=timeout_s)
    for call in late:
        ray.cancel(call)
    return {node: _answer(call, is_there=call in ready) for node, call in calls.items()}


def _call(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


def is_canceled() -> bool:
    """Return, within a call of an actor, whether the caller has cancelled it; takes a microsecond."""
    return bool(ray.get_runtime_context().is_canceled())


def own_error(error: Any) -> Exception:
    """Return the error of the called code from the RayTaskError that wraps it."""
    found: Exception = error.cause if isinstance(error.cause, Exception) else error
    return found


def _answer(call: Any, *, is_there: bool) -> Any:
    if not is_there:
        return TimeoutError("no answer")
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        return own_error(error)
    except ray.exceptions.RayError as error:
        return error


def start_ray(
    address: str | None, *, num_cpus: int, num_threads: int = 1, folder: Path | None = None
) -> None:
    """Start a local Ray, or join the one at ``address``. Raises ConfigError or WorkerError.

    address: HOST:PORT of the head, or ``auto`` inside a job of the cluster. num_threads: of a worker's
    libraries, in a local Ray. folder: of a local Ray; by default one that goes with this process.
    """
    if address is None:
        _start_local(num_cpus, num_threads, folder or _own_folder())
        return
    try:
        _probe(address)
        _init(address=address)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        if is_about_token(error):
            raise token_error("executor.address", address) from error
        reason = first_line(error)[:200]
        raise ConfigError(
            f"executor.address: found {address!r}, no Ray cluster answers there ({reason}); "
            "start one with `ray start --head`, or set executor.address=null"
        ) from error


def _start_local(num_cpus: int, num_threads: int, folder: Path) -> None:
    ensure_token()
    # "local": without it ray.init would join any cluster it finds on this machine.
    options = {"address": "local", "num_cpus": num_cpus, "include_dashboard": False}
    try:
        with _for_one_command(num_threads):
            _init(**options, _node_ip_address=LOOPBACK, _temp_dir=str(folder / OPEN))
    except Exception as error:  # Ray raises a bare Exception if one of its processes dies or is slow
        reason = first_line(error)[:200]
        raise WorkerError(
            f"Ray did not start on this machine ({reason}); run the same command again"
        ) from error


def _own_folder() -> Path:
    """Return a folder that is removed when this process ends, after Ray."""
    folder = make_ray_folder()

    def end() -> None:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return folder


@contextmanager
def _for_one_command(num_threads: int) -> Iterator[None]:
    """Have Ray start only what training needs, on loopback, with the environment of its workers.

    Ray puts the machine's address in place of a loopback one, and then listens on all interfaces. Its agent, for
    whose start it waits, takes half as long if it believes that the dashboard is not installed. Set for all of them
    at once, the variables leave the workers that Ray starts ahead usable for actors; with ``runtime_env`` each actor
    gets a process of its own, and those stay idle.
    """
    private: Any = ray._private  # noqa: SLF001  # there is no public way
    changes: list[tuple[Any, str, Callable[..., Any]]] = [
        *((private.node.Node, name, _start_nothing) for name in UNUSED),
        (private.services, "resolve_ip_for_localhost", _as_given),
        (private.utils, "get_dashboard_dependency_error", _no_dashboard),
    ]
    variables = thread_variables(num_threads)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with ExitStack() as stack:
            for owner, name, function in changes:
                stack.enter_context(_replaced(owner, name, function))
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _as_given(host: str) -> str:
    """Return the address of a host as it is."""
    return host


@contextmanager
def _replaced(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    """Replace an attribute for a while, if there is one of this name."""
    if not hasattr(owner, name):
        yield
        return
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _start_nothing(*_arguments: Any, **_options: Any) -> None:
    """Stand for a method that would start a process."""


def _no_dashboard() -> ImportError:
    return ImportError("no dashboard for a single command")


def thread_variables(num_threads: int) -> dict[str, str]:
    """Return the environment variables that limit the threads of a worker's libraries."""
    return {name: str(num_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def _init(**options: Any) -> None:
    """Call ``ray.init`` quietly, and restore the SIGTERM handler that it replaces."""
    _hide_raylet_logs()
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    # Workers look for modules in this process's folder first, where the user may have packages of our names.
    with chdir(PROJECT):
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    if in_main_thread:
        signal.signal(signal.SIGTERM, handler)


def _hide_raylet_logs() -> None:
    """Keep the log tail of a lost raylet off the terminal; we report the loss ourselves.

    Ray prints it whatever ``log_to_driver`` is.
    """
    worker: Any = ray._private.worker  # noqa: SLF001  # there is no public way
    original = getattr(worker, "print_to_stdstream", None)
    if original is not None and not hasattr(original, "hides_raylet_logs"):

        def print_to_stdstream(data: dict[str, Any], *arguments: Any, **options: Any) -> None:
            if data.get("pid") != "raylet":
                original(data, *arguments, **options)

        print_to_stdstream.hides_raylet_logs = True  # type: ignore[attr-defined]  # a mark, so that it is done once
        worker.print_to_stdstream = print_to_stdstream


def _probe(address: str) -> None:
    """Raise ConnectionError if no head answers or it rejects the token; Ray itself would retry forever."""
    match = re.fullmatch(r"[^:/]+:\d+", address)
    if match is None:  # auto, or the address of a Ray client server
        return
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(PROBE_METHOD)(b"", timeout=PROBE_LIMIT_S, metadata=token_header())
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise ConnectionError("authentication failed") from error
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ConnectionError("nothing answers") from error
