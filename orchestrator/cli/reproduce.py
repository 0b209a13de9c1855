"""The command that reproduces the paper's numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import Plain, Quiet, consoles
from orchestrator.config.own_data import data_folder
from orchestrator.execution.ctrl_c import handle_stops

if TYPE_CHECKING:
    from orchestrator.reproduce.measure import TargetFolders
    from orchestrator.reproduce.reproduce import TargetResult
    from orchestrator.reproduce.targets import Target
    from storage.locations import Location

papers = typer.Typer()


@papers.command()
def reproduce(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[T1 T2 ...] [key=value]...", help="Default: all.", show_default=False),
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: <storage.uri>/reproduce.")] = None,
    only_read: Annotated[bool, typer.Option("--read", help="Judge the stored results; run nothing.")] = False,
    quiet: Quiet = False,
    plain: Plain = False,
) -> None:
    """Measure the paper's numbers: run or resume each target's sweeps, then judge it."""
    from orchestrator.cli.display import make_display
    from orchestrator.reproduce.measure import target_folders
    from orchestrator.reproduce.reproduce import check_targets, read_target, reproduce_folder, run_target
    from orchestrator.reproduce.targets import check_settings, load_targets

    handle_stops()
    words = targets or []
    settings = [word for word in words if "=" in word]
    chosen = load_targets([word for word in words if "=" not in word])
    check_settings(settings)
    console, progress = consoles(quiet=quiet, plain=plain, as_json=False)
    display = make_display(progress, plain=plain, quiet=quiet)
    failures = 0
    if not only_read:
        check_targets(chosen, settings, data_folder(None))
    for target in chosen:
        folders = target_folders(target, settings)
        if not only_read:
            display.message(f"{target.name}: {target.title}")
            failures += len(run_target(folders, settings, data_folder(None), display))
        result = read_target(target, settings, folders)
        folder = out or reproduce_folder(folders)
        _write(folder, result, folders)
        console.print(f"{target.name}: {result.verdict.words}", highlight=False, soft_wrap=True)
    console.print(_write_page(folder, chosen), highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failures else 0)


def _write(folder: "Location", result: "TargetResult", folders: "TargetFolders") -> None:
    """Write the verdict, tables and figures of one target."""
    from orchestrator.reproduce.figures import draw_target, read_tables, target_tables, write_tables
    from orchestrator.reproduce.page import write_result

    name = result.target.name
    write_result(folder, result)
    write_tables(folder, name, target_tables(folders, result.measurements))
    draw_target(folder, name, read_tables(folder, name))


def _write_page(folder: "Location", chosen: list["Target"]) -> str:
    from orchestrator.report.text import short
    from orchestrator.reproduce.page import read_results, verdict_table, write_page
    from orchestrator.reproduce.targets import load_targets

    write_page(folder, read_results(folder, load_targets([])))
    values = read_results(folder, chosen)
    return f"\n{verdict_table(values)}\n\nverdicts, tables and figures: {short(folder)}"
