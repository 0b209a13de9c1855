"""Starting and joining Ray. Everything of ours that uses Ray takes it from here.

A Ray started here is this machine's own, on loopback where Ray can be confined, without a
dashboard, with a token (``ray_auth``), without usage reports.
"""

import logging
import os
import re
import signal
import socket
import threading
from typing import Any

from core.errors import ConfigError, first_line
from orchestrator.ray_auth import ensure_token, is_about_token, token_error, use_token_if_any

# Before ray is imported: no usage reports, no rewriting of device variables, the token.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
use_token_if_any()

import ray

PROBE_LIMIT_S = 10.0
# ray itself too: whoever else needs it takes it from here, after the lines above.
__all__ = ["cluster_size", "free_resources", "ray", "start_ray"]


def cluster_size(address: str) -> tuple[int, int]:
    """Return the CPUs and GPUs of the Ray cluster at ``address``, connecting to it."""
    if not ray.is_initialized():
        start_ray(address, num_cpus=0)
    total = ray.cluster_resources()
    return int(total.get("CPU", 0)), int(total.get("GPU", 0))


def free_resources() -> str:
    """Say what CPUs and GPUs the cluster has, and how many of them nobody holds."""
    total, free = ray.cluster_resources(), ray.available_resources()
    parts = [f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU")]
    return f"the cluster has {' and '.join(parts)} free"


def start_ray(address: str | None, *, num_cpus: int) -> None:
    """Start a Ray of this machine alone, or join the one at ``address``. Raises ConfigError.

    address: HOST:PORT of the head, or ``auto`` inside a job of the cluster.
    """
    if address is None:
        ensure_token()
        # "local": without it ray.init would join any cluster it finds on this machine.
        _init(address="local", num_cpus=num_cpus, include_dashboard=False, _node_ip_address="127.0.0.1")
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
