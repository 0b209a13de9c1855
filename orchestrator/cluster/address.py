"""The address of a cluster's dashboard, and commands for its jobs that include it if necessary."""

import os

from orchestrator.runs.commands import supsup_command

ADDRESS = "RAY_API_SERVER_ADDRESS"
DEFAULT_ADDRESS = "http://127.0.0.1:8265"


def job_address(given: str | None) -> str:
    """Return the dashboard's URL: as given, from the environment, or on this machine."""
    address = given or os.environ.get(ADDRESS) or DEFAULT_ADDRESS
    return address if "://" in address else f"http://{address}"


def job_command(verb: str, job: str, address: str, *options: str) -> str:
    """Return the shell command ``supsup VERB JOB`` for a job on the cluster at ``address``."""
    where = [] if job_address(address) == job_address(None) else ["--address", address]
    return supsup_command(verb, job, *options, *where)
