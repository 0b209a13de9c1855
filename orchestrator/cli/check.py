"""The command that holds what users add to its promises."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.errors import ConfigError

checks = typer.Typer()


@checks.command()
def check(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="What it is: data, tasks, network, method or tracker.")
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="As in a sweep: package.file:name, a path or a name.")
    ],
    outputs: Annotated[int, typer.Option(help="Outputs of a network.")] = 10,
    shape: Annotated[str, typer.Option(metavar="C,H,W", help="Images of a network.")] = "3,32,32",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of data sets.")] = None,
) -> None:
    """Check your own data set, tasks, network, method or tracker before a run relies on it."""
    from orchestrator.checks import CHECKS, CheckOptions, find_check
    from orchestrator.config.own_data import data_folder
    from orchestrator.report.text import print_plain

    if kind not in CHECKS:
        raise ConfigError(f"check: found {kind!r}, expected {', '.join(CHECKS)}")
    options = CheckOptions(
        folder=data_folder(None if data is None else str(data)), outputs=outputs, shape=_shape(shape)
    )
    for line in find_check(kind)(name, options):
        print_plain(Console(), line)
    print_plain(Console(), f"{kind} {name}: good")


def _shape(text: str) -> tuple[int, int, int]:
    sides = text.split(",")
    if len(sides) != 3 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise ConfigError(f"--shape: found {text!r}, expected channels, height and width, such as 1,28,28")
    channels, height, width = map(int, sides)
    if channels not in (1, 3):
        raise ConfigError(f"--shape: found {channels} channels, expected 1 or 3")
    return channels, height, width
