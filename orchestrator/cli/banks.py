"""The commands that share banks of masks: merge, forget, push, pull, sign."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from core.errors import ConfigError, plural
from orchestrator.cli.common import (
    Plain,
    Quiet,
    RunName,
    Storage,
    complete_run,
    consoles,
    parse_tasks,
)
from orchestrator.config.own_data import data_folder
from orchestrator.execution.ctrl_c import handle_stops

if TYPE_CHECKING:
    from orchestrator.banks.forget import Forgotten
    from storage.locations import Location  # imports pyarrow, and --help must not

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


@banks.command()
def forget(
    run: RunName,
    task: Annotated[str, typer.Option(help="The task, or tasks such as 7,9-11.")],
    *,
    reason: Annotated[str | None, typer.Option(help="Why, for the tombstone.")] = None,
    no_evaluate: Annotated[
        bool, typer.Option("--no-evaluate", help="Only remove tables and report; do not make them anew.")
    ] = False,
    storage: Storage = "runs",
    quiet: Quiet = False,
    plain: Plain = False,
) -> None:
    """Take tasks out of a run for good: masks, tables, figures, checkpoints. Every other answer stays as without them."""
    from orchestrator.banks.forget import forget_tasks
    from orchestrator.cli.display import make_display
    from orchestrator.report.tables import print_results
    from orchestrator.report.text import print_plain
    from orchestrator.status import resolve_run
    from storage.layout import RunLayout
    from storage.run_file import read_run

    handle_stops()
    root = resolve_run(run, storage)
    tasks = parse_tasks(task, read_run(RunLayout(root)).num_tasks, "--task")
    console, progress = consoles(quiet=quiet, plain=plain, as_json=False)
    display = make_display(progress, plain=plain, quiet=quiet)
    done = forget_tasks(root, tasks, data_folder(None), display, reason=reason, evaluate=not no_evaluate)
    if done.result is not None:
        print_results(console, done.result.results, done.result.gaps)
    for line in _forgotten_lines(done):
        print_plain(console, line)
    raise typer.Exit(1 if done.result is not None and done.result.failures else 0)


def _forgotten_lines(done: "Forgotten") -> Iterator[str]:
    from orchestrator.runs.commands import supsup_command

    for task, digest in done.digests.items():
        yield f"task {task}: forgotten; " + (
            f"its mask was {digest}" if digest else "it had no mask, and never gets one"
        )
    yield f"rewrote {plural(len(done.rewritten), 'mask file')}, and removed {done.num_removed} derived files and folders"
    if done.lost_tables:
        again = supsup_command("evaluate", done.run.layout.root, config=done.run.config)
        yield f"not made anew: {', '.join(done.lost_tables)}; `{again}` makes tables, with its settings"
    yield (
        "not reached from here: exported files, backups, older versions in an object store, models and child runs in "
        "MLflow, processes that still answer; what was pushed goes with the next push"
    )


@banks.command()
def push(
    run: RunName,
    to: Annotated[
        str, typer.Argument(metavar="STORE", help="A folder, or s3://BUCKET/PREFIX, of shared banks.")
    ],
    storage: Storage = "runs",
    quiet: Quiet = False,
) -> None:
    """Send a run's masks and tables to a store of shared banks; of a bank that has grown, only what is new."""
    from orchestrator.banks.push import push_run
    from orchestrator.cli.display import make_display
    from orchestrator.report.text import print_plain
    from orchestrator.status import resolve_run

    handle_stops()
    console, progress = consoles(quiet=quiet, plain=False, as_json=False)
    display = make_display(progress, plain=False, quiet=quiet)
    done = push_run(resolve_run(run, storage), _store(to), display)
    print_plain(
        console,
        f"sent {plural(done.num_sent, 'file')}, {done.sent_bytes:,} bytes, and a list of {done.manifest_bytes:,} bytes; "
        f"the bank has {plural(done.num_files, 'file')}, {done.num_bytes:,} bytes",
    )
    if done.num_removed:
        print_plain(console, f"removed {plural(done.num_removed, 'file')} there that no bank names any more")
    print_plain(console, f"the bank is {done.manifest}")


@banks.command()
def pull(
    run: Annotated[str, typer.Argument(metavar="NAME", help="The name of the bank, that of its run folder.")],
    source: Annotated[
        str, typer.Argument(metavar="STORE", help="The folder, or s3://BUCKET/PREFIX, of shared banks.")
    ],
    storage: Storage = "runs",
    quiet: Quiet = False,
) -> None:
    """Fetch a bank from a store into its run folder, every byte verified; run it again to resume, or to get what is new."""
    from orchestrator.banks.pull import pull_run
    from orchestrator.cli.display import make_display
    from orchestrator.report.text import print_plain
    from orchestrator.runs.commands import supsup_command
    from storage.locations import to_location

    handle_stops()
    console, progress = consoles(quiet=quiet, plain=False, as_json=False)
    display = make_display(progress, plain=False, quiet=quiet)
    done = pull_run(run, _store(source), to_location(storage), display)
    print_plain(
        console, f"fetched {plural(done.num_fetched, 'file')}, {done.fetched_bytes:,} bytes, all verified"
    )
    for task in done.waiting:
        again = supsup_command("forget", done.root, "--task", task)
        print_plain(console, f"task {task} was forgotten there; `{again}` removes its mask here")
    print_plain(console, f"{done.root} has the masks of {plural(done.num_tasks, 'task')}")


@banks.command()
def sign(
    run: RunName,
    key: Annotated[Path, typer.Option(metavar="KEY.pem", help="Your private elliptic key, in PEM.")],
    storage: Storage = "runs",
) -> None:
    """Sign all files of a run that `push` sends, after verifying them; `verify --key` checks the signature."""
    from orchestrator.banks.signing import sign_run
    from orchestrator.report.text import print_plain
    from orchestrator.status import resolve_run

    root = resolve_run(run, storage)
    num_files = sign_run(root, key)
    print_plain(Console(), f"signed {plural(num_files, 'file')} of {root}: bank.sig, which a push sends too")


def print_signature(root: "Location", key: Path) -> bool:
    """Print whether the signature of a run is good, and return it."""
    from orchestrator.banks.signing import signature_problem
    from orchestrator.report.text import print_plain

    problem = signature_problem(root, key)
    print_plain(Console(), f"the signature is that of {key}" if problem is None else f"signature: {problem}")
    return problem is None


def _store(text: str) -> "Location":
    """Return the location of a store. Raises ConfigError."""
    from orchestrator.config.sections import StorageConfig
    from storage.locations import to_location

    return to_location(StorageConfig(uri=text).uri)
