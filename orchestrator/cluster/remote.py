"""The job commands of the command line, on a Ray cluster."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from core.errors import ConfigError
from orchestrator.cluster.submission import check_cluster_file
from orchestrator.config.load import load_sweep, read_cluster_file

DEFAULT_ADDRESS = "http://127.0.0.1:8265"


def submit_sweep(
    path: Path, settings: Sequence[str], address: str | None, inputs: list[Path]
) -> tuple[str, str]:
    """Submit a sweep as a job; return the cluster's address and the job's id. Raises InputError."""
    cluster = read_cluster_file(path)
    if cluster is not None:
        check_cluster_file(cluster, str(path))
    chosen = job_address(address or _named_address(cluster))
    config = load_sweep(path, settings)
    if config.executor.kind == "ray" and config.executor.address is not None:
        raise ConfigError(
            f"executor.address: found {config.executor.address!r}, expected null: a job runs on the cluster that "
            "it is submitted to (--address)"
        )
    from orchestrator.cluster.jobs import submit  # imports ray: after all cheap checks

    return chosen, submit(config, chosen, inputs)


def job_address(given: str | None) -> str:
    """Return the dashboard's address: as given, from the environment, or on this machine."""
    return given or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS


def _named_address(cluster: dict[str, Any] | None) -> str | None:
    """Return the address in a cluster file with provider ``external``, else None."""
    address = ((cluster or {}).get("provider") or {}).get("address")
    return None if address is None else str(address)


def follow_job(job: str, address: str) -> int:
    """Print a job's log until it ends and return its exit code. Ctrl-C leaves the job running."""
    from orchestrator.cluster.jobs import follow

    try:
        return follow(job, address, lambda text: print(text, end="", flush=True))  # noqa: T201
    except KeyboardInterrupt:
        Console(stderr=True).print(
            f"the job goes on; `supsup logs {job} --follow` shows it again, `supsup stop {job}` ends it",
            highlight=False,
            soft_wrap=True,
        )
        return 0


def job_log(job: str, address: str) -> str:
    """Return a job's log so far."""
    from orchestrator.cluster.jobs import logs

    return logs(job, address)


def stop_job(job: str, address: str | None) -> str:
    """Stop a job and return a message for the user."""
    from orchestrator.cluster.jobs import stop

    if stop(job, job_address(address)):
        return f"stopping {job}; what it finished is kept, and submitting the sweep again goes on"
    return f"{job} had ended already"
