"""The job commands of the command line, on a Ray cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from core.errors import ConfigError
from core.own_code.permission import require_allowed
from orchestrator.cluster.address import job_address, job_command
from orchestrator.cluster.submission import check_cluster_file
from orchestrator.config.load import read_cluster_file
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import locate_run
from orchestrator.runs.search_file import search_folder
from storage.locations import Location


@dataclass(frozen=True, kw_only=True)
class SubmittedJob:
    """A job on a cluster. address: of the dashboard, a URL. folder: of the run, or of the search's results."""

    id: str
    address: str
    folder: Location


def submit_sweep(
    config: SweepConfig, path: Path | None, address: str | None, inputs: list[Path]
) -> SubmittedJob:
    """Submit a sweep as a job. path: of the sweep file, None for a stored sweep. Raises InputError."""
    cluster = None if path is None else read_cluster_file(path)
    if cluster is not None:
        check_cluster_file(cluster, str(path))
    chosen = job_address(address or _named_address(cluster))
    for code in config.run_spec().own_code:
        require_allowed(code)
    if config.executor.kind == "ray" and config.executor.address is not None:
        raise ConfigError(
            f"executor.address: found {config.executor.address!r}, expected null: a job runs on the cluster that "
            "it is submitted to (--address)"
        )
    folder = locate_run(config).layout.root if config.search is None else search_folder(config)
    from orchestrator.cluster.jobs import submit  # imports ray: after all cheap checks

    return SubmittedJob(id=submit(config, chosen, inputs), address=chosen, folder=folder.absolute())


def _named_address(cluster: dict[str, Any] | None) -> str | None:
    """Return the address in a cluster file with provider ``external``, else None."""
    address = ((cluster or {}).get("provider") or {}).get("address")
    return None if address is None else str(address)


def submitted_words(job: SubmittedJob) -> str:
    """Return the facts about a job that was just submitted, one per line."""
    rows = {
        "run folder": job.folder,
        "follow": job_command("logs", job.id, job.address, "--follow"),
        "stop": job_command("stop", job.id, job.address),
        "dashboard": job.address,
    }
    return "\n".join([f"job {job.id} on {job.address}", *(f"  {key:<12}{row}" for key, row in rows.items())])


def follow_job(job: str, address: str) -> int:
    """Print a job's log until it ends and return its exit code. Ctrl-C leaves the job running."""
    from orchestrator.cluster.jobs import follow

    try:
        return follow(job, address, lambda text: print(text, end="", flush=True))  # noqa: T201  # the job's own output
    except KeyboardInterrupt:
        Console(stderr=True).print(
            f"the job keeps running; `{job_command('logs', job, address, '--follow')}` shows it again, "
            f"`{job_command('stop', job, address)}` ends it",
            highlight=False,
            markup=False,
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
        return f"stopping {job}; finished work is kept, and submitting the sweep again resumes"
    return f"{job} had already ended"
