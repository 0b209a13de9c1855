"""The commands that share banks of masks: merge."""

from typing import Annotated

import typer
from rich.console import Console

from core.errors import ConfigError, plural
from orchestrator.cli.common import Storage, complete_run

banks = typer.Typer()


@banks.command()
def merge(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...", help="Folders of one run, or their names.", autocompletion=complete_run
        ),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="The storage folder for the merged run folder.")],
    storage: Storage = "runs",
) -> None:
    """Join tasks of one run that were trained in several folders; conflicts are named, and nothing is written then."""
    from orchestrator.banks.merge import merge_runs
    from orchestrator.report.text import print_plain
    from orchestrator.runs.commands import supsup_command
    from orchestrator.status import resolve_run
    from storage.locations import to_location

    if len(runs) < 2:
        raise ConfigError(f"merge: found {plural(len(runs), 'run')}, expected at least two")
    merged = merge_runs([resolve_run(run, storage) for run in runs], to_location(out))
    for root, num_tasks in merged.added:
        print_plain(Console(), f"{plural(num_tasks, 'task')} from {root}")
    for note in merged.notes:
        print_plain(Console(), f"note: {note}")
    print_plain(Console(), f"{merged.root} has the masks of {plural(merged.num_tasks, 'task')}")
    print_plain(Console(), f"`{supsup_command('run', merged.root)}` trains what is missing, and evaluates")
