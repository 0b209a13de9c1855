"""Jobs on a Ray cluster through its Jobs API: submit, follow, list, stop."""

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError, RunLockedError, SupSupError, first_line
from core.own_code.files import code_digest
from core.own_code.permission import ALLOW_CODE, code_is_allowed
from orchestrator.cluster.address import job_address, job_command
from orchestrator.cluster.auth import is_about_token, token_error
from orchestrator.cluster.connect import job_submission
from orchestrator.cluster.submission import data_hint, stage, with_settled_paths
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import locate_run

JobStatus = job_submission.JobStatus
FOLLOW_S = 1.0
LOST_S = 60.0  # without an answer, following a job fails
GOING = (JobStatus.PENDING, JobStatus.RUNNING)
CODE_STOPPED = 130


@dataclass(frozen=True, kw_only=True)
class JobState:
    """One of our jobs.

    code: exit code, None before it ends. started_s: None before it starts. message: Ray's. folder: of
    its run; None for a search, or a job of an older version.
    """

    job: str
    state: str
    code: int | None
    started_s: float | None
    message: str
    folder: str | None


def submit(
    config: SweepConfig, address: str, inputs: list[Path], entrypoint: str = "python -m orchestrator.cli.job"
) -> str:
    """Submit a sweep as a job and return the job's id. Raises ConfigError or RunLockedError."""
    run = None if config.search is not None else locate_run(with_settled_paths(config))
    name = f"{config.name}-search" if run is None else run.name
    with tempfile.TemporaryDirectory(prefix="supsup-job-") as folder, _plain_errors(address):
        stage(Path(folder), config, inputs)
        client = _client(address)
        for job in _our_jobs(client):
            if job.metadata.get("supsup") == name and job.status in GOING:
                again = job_command("logs", str(job.submission_id), address, "--follow")
                raise RunLockedError(f"already running: {name} is job {job.submission_id}; `{again}`")
        return str(
            client.submit_job(
                entrypoint=entrypoint,
                submission_id=f"{name}-{secrets.token_hex(3)}",
                runtime_env={"working_dir": folder, "env_vars": data_hint() | _code_hint(config)},
                metadata={"supsup": name} | ({} if run is None else {"folder": str(run.layout.root)}),
            )
        )


def _code_hint(config: SweepConfig) -> dict[str, str]:
    """Return the environment variable that allows a job the user's own code as it is here, if it is allowed."""
    digests = [code_digest(code) for code in config.run_spec().own_code if code_is_allowed(code)]
    return {ALLOW_CODE: os.pathsep.join(digests)} if digests else {}


def follow(job_id: str, address: str, write: Callable[[str], None]) -> int:
    """Write a job's log as it grows, until the job ends; return its exit code."""
    with _plain_errors(address):
        client, num_written, answered_s = _client(address), 0, time.monotonic()
        while True:
            try:
                info = _info(client, job_id, address)
                log = client.get_job_logs(job_id)
                answered_s = time.monotonic()
            except (OSError, RuntimeError):  # failed requests raise OSError
                if time.monotonic() - answered_s > LOST_S:
                    raise
                time.sleep(FOLLOW_S)
                continue
            write(log[num_written:])
            num_written = len(log)
            if info.status not in GOING:
                return exit_code(info)
            time.sleep(FOLLOW_S)


def exit_code(info: Any) -> int:
    """Return the exit code of a job's command, or the closest equivalent."""
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.status == JobStatus.STOPPED:
        return CODE_STOPPED
    return int(info.driver_exit_code or 1)


def logs(job_id: str, address: str) -> str:
    """Return a job's log so far."""
    with _plain_errors(address):
        client = _client(address)
        _info(client, job_id, address)
        return str(client.get_job_logs(job_id))


def stop(job_id: str, address: str) -> bool:
    """Ask a job to stop and return whether it was still running. Ray kills it after three seconds."""
    with _plain_errors(address):
        client = _client(address)
        _info(client, job_id, address)
        return bool(client.stop_job(job_id))


def job_states(address: str, job_id: str | None = None) -> list[JobState]:
    """Return the state of each of our jobs, newest last, or of one job."""
    with _plain_errors(address):
        client = _client(address)
        jobs = _our_jobs(client) if job_id is None else [_info(client, job_id, address)]
        return [
            JobState(
                job=str(job.submission_id),
                state=str(job.status.value).lower(),
                code=None if job.status in GOING else exit_code(job),
                started_s=job.start_time / 1000 if job.start_time else None,
                message=first_line(Exception(job.message or "-")),
                folder=(job.metadata or {}).get("folder"),
            )
            for job in sorted(jobs, key=lambda job: job.start_time or 0)
        ]


def _client(address: str) -> Any:
    for noisy in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):  # uploads
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return job_submission.JobSubmissionClient(job_address(address))


def _our_jobs(client: Any) -> list[Any]:
    return [job for job in client.list_jobs() if (job.metadata or {}).get("supsup")]


def _info(client: Any, job_id: str, address: str) -> Any:
    try:
        return client.get_job_info(job_id)
    except RuntimeError as error:
        if "404" not in str(error):
            raise
        known = ", ".join(str(job.submission_id) for job in _our_jobs(client)) or "none"
        raise ConfigError(f"no job {job_id!r} on the cluster at {address}; jobs there: {known}") from error


@contextmanager
def _plain_errors(address: str) -> Iterator[None]:
    """Turn any error of Ray into one line with advice."""
    try:
        yield
    except SupSupError:
        raise
    except Exception as error:
        if is_about_token(error):
            raise token_error("--address", address) from error
        if isinstance(error, OSError):
            raise ConfigError(
                f"--address: no Ray cluster answers at {address} (its dashboard's address, such as "
                "http://127.0.0.1:8265); `ray start --head` starts one, and an ssh tunnel reaches one elsewhere"
            ) from error
        raise SupSupError(f"the Ray cluster at {address} refused: {first_line(error)[:300]}") from error
