"""The commands for jobs on a Ray cluster."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestrator.cli.common import Address, Settings, Storage, SweepOrRun, SweepStorage, find_sweep

jobs = typer.Typer()


@jobs.command()
def submit(
    sweep: SweepOrRun,
    settings: Settings = None,
    *,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show the job's log until it ends.")] = False,
    include: Annotated[
        list[Path] | None, typer.Option(help="A small file or folder to send with the job.")
    ] = None,
    storage: SweepStorage = None,
) -> None:
    """Run a sweep as a job on a Ray cluster, or resume RUN there; the same command resumes."""
    from orchestrator.cluster.remote import follow_job, submit_sweep, submitted_words

    config = find_sweep(sweep, settings or [], storage)
    job = submit_sweep(config, Path(sweep) if Path(sweep).is_file() else None, address, include or [])
    Console().print(submitted_words(job), highlight=False, markup=False, soft_wrap=True)
    if follow:
        raise typer.Exit(follow_job(job.id, job.address))


@jobs.command()
def logs(
    target: Annotated[str, typer.Argument(metavar="RUN|JOB", help="A run folder, or a job of a cluster.")],
    *,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show a job's log until it ends.")] = False,
    task: Annotated[int | None, typer.Option(help="Show only this task.", min=0)] = None,
    storage: Storage = "runs",
) -> None:
    """Show the log of a job; or, for a run or a search, every attempt at the tasks that failed at least once."""
    from orchestrator.cli.searches import print_search_logs
    from orchestrator.cli.task_logs import find_run, print_task_logs
    from orchestrator.cluster.address import job_address
    from orchestrator.cluster.remote import follow_job, job_log
    from orchestrator.status import resolve_search

    searched = resolve_search(target, storage) if address is None else None
    root = find_run(target, storage) if address is None and searched is None else None
    if searched is not None:
        print_search_logs(Console(), searched, task)
    elif root is not None:
        print_task_logs(Console(), root, task)
    elif follow:
        raise typer.Exit(follow_job(target, job_address(address)))
    else:
        print(job_log(target, job_address(address)), end="")


@jobs.command()
def stop(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The id that `supsup submit` printed.")],
    *,
    address: Address = None,
) -> None:
    """Stop a job; finished work is kept, and submitting the sweep again resumes."""
    from orchestrator.cluster.remote import stop_job

    Console().print(stop_job(job, address), highlight=False, soft_wrap=True)


@jobs.command()
def token() -> None:
    """Create a Ray cluster's token if there is none, and print where it is, never its value."""
    from orchestrator.cluster.auth import describe_token

    Console().print(describe_token(), highlight=False, markup=False, soft_wrap=True)


@jobs.command()
def shellenv() -> None:
    """Print a shell function: `ray submit SWEEP.yaml [key=value]...` works after eval "$(supsup shellenv)"."""
    from orchestrator.cli.shell_function import shell_function

    print(shell_function(), end="")
