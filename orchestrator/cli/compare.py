"""The command that compares runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from core.errors import ConfigError
from orchestrator.cli.common import Storage, complete_run, parse_counts

if TYPE_CHECKING:
    from orchestrator.compare.comparison import Comparison

comparisons = typer.Typer()


@comparisons.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run folders, or their names; searches too.", autocompletion=complete_run
        ),
    ],
    by: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Keys that make groups; default: all that differ.")
    ] = None,
    over: Annotated[str, typer.Option(metavar="KEY", help="The key to average over.")] = "seed",
    scenario: Annotated[list[str] | None, typer.Option(help="Only these scenarios, such as GG.")] = None,
    k: Annotated[str | None, typer.Option(metavar="5,10", help="Only these numbers of tasks.")] = None,
    *,
    latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table for booktabs.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print all digits, comma-separated.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Print a Markdown table.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write tables and a figure.")] = None,
    storage: Storage = "runs",
) -> None:
    """Compare finished runs over seeds: mean, spread, paired difference from the first group."""
    from orchestrator.compare.comparison import compare_runs
    from orchestrator.compare.write import write_comparison
    from orchestrator.report.text import print_plain

    if latex + as_csv + md > 1:
        raise ConfigError("compare: found several of --latex, --csv and --md, expected at most one")
    if out is not None and out.parts[:1] == ("s3:",):
        raise ConfigError(f"--out: found {out}, expected a folder of this machine")
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"--out: {out} is a file, expected a folder")
    ks = parse_counts(k, "--k") if k else []
    found = compare_runs(runs, by=by, over=over, scenarios=scenario or [], ks=ks, storage=storage)
    notes = Console(stderr=True)
    if latex or as_csv or md:
        print(found.latex() if latex else found.csv() if as_csv else found.markdown(), end="")
    else:
        _print(Console(), found)
    for line in found.left_out:
        print_plain(notes, f"left out: {line}")
    for path in write_comparison(found, out) if out is not None else ():
        print_plain(notes, f"wrote {path}")


def _print(console: Console, found: "Comparison") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    from orchestrator.compare.texts import HEADS, blocks, cells

    for cell, rows in blocks(found.rows):
        numbers = [Column(head, justify="right") for head in HEADS[1:]]
        table = Table(HEADS[0], *numbers, box=SIMPLE_HEAD, title=str(cell), title_justify="left")
        for row in rows:
            table.add_row(*cells(row))
        console.print(table)
