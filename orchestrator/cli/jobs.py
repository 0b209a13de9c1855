"""The commands for jobs on a Ray cluster."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestrator.cli.common import Address, Settings, Storage, Sweep

jobs = typer.Typer()
TEXT = """\
# From `supsup shellenv`. `type ray` shows it, `unset -f ray` takes it away.
ray() {{
  if [ $# -eq 2 ] && [ "$1" = submit ] && grep -qs '^cluster_name:' "$2" && grep -qs '^  sweep:' "$2"; then
    command ray submit "$2" '{script}'
  elif [ $# -eq 2 ] && [ "$1" = submit ] && grep -qs '^benchmark:' "$2"; then
    supsup submit "$2" --follow
  else
    command ray "$@"
  fi
}}
"""


@jobs.command()
def submit(
    sweep: Sweep,
    settings: Settings = None,
    *,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show the job's log until it ends.")] = False,
    include: Annotated[
        list[Path] | None, typer.Option(help="A small file or folder that travels with the job.")
    ] = None,
) -> None:
    """Run a sweep as a job on a Ray cluster; the same command resumes."""
    from orchestrator.cluster.remote import follow_job, submit_sweep

    chosen, job = submit_sweep(sweep, settings or [], address, include or [])
    Console().print(f"job {job} on {chosen}", highlight=False, soft_wrap=True)
    if follow:
        raise typer.Exit(follow_job(job, chosen))
    Console().print(f"follow it: supsup logs {job} --follow", highlight=False, soft_wrap=True)


@jobs.command()
def logs(
    target: Annotated[str, typer.Argument(metavar="RUN|JOB", help="A run folder, or a job of a cluster.")],
    *,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show a job's log until it ends.")] = False,
    task: Annotated[int | None, typer.Option(help="Only what concerns this task.", min=0)] = None,
    storage: Storage = "runs",
) -> None:
    """Show what a job printed; or, of a run, the attempts of tasks that failed at least once."""
    from orchestrator.cli.task_logs import find_run, print_task_logs
    from orchestrator.cluster.remote import follow_job, job_address, job_log

    root = find_run(target, storage) if address is None else None
    if root is not None:
        print_task_logs(Console(), root, task)
    elif follow:
        raise typer.Exit(follow_job(target, job_address(address)))
    else:
        print(job_log(target, job_address(address)), end="")


@jobs.command()
def stop(
    job: Annotated[str, typer.Argument(metavar="JOB", help="As `supsup submit` named it.")],
    *,
    address: Address = None,
) -> None:
    """Stop a job; what it finished is kept, and submitting the sweep again goes on."""
    from orchestrator.cluster.remote import stop_job

    Console().print(stop_job(job, address), highlight=False, soft_wrap=True)


@jobs.command()
def shellenv() -> None:
    """Print a shell function with which `ray submit SWEEP.yaml` works: eval "$(supsup shellenv)"."""
    print(shell_function(), end="")


def shell_function() -> str:
    """Return the shell function, with the path of the script that runs a sweep on the cluster."""
    script = Path(__file__).with_name("job.py")
    return TEXT.format(script=str(script).replace("'", "'\\''"))
