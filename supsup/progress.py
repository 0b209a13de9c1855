"""Progress for Python: as the command line shows it, in a notebook as one output that changes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from orchestrator.cli.display import PlainDisplay, make_display
from orchestrator.execution.progress import Display


def make_progress(*, quiet: bool = False) -> Display:
    """Return the display for where this process runs."""
    console = Console(stderr=True)
    shell = None if quiet else _notebook()
    return make_display(console, quiet=quiet) if shell is None else NotebookDisplay(console, shell)


def _notebook() -> Any:
    """Return the functions to show things with in a notebook, None elsewhere."""
    shell = sys.modules.get("IPython")
    if shell is None or type(shell.get_ipython()).__name__ != "ZMQInteractiveShell":
        return None
    return sys.modules["IPython.display"]


class NotebookDisplay(PlainDisplay):
    """One line of a cell's output, written anew; messages stay."""

    def __init__(self, console: Console, shown: Any) -> None:
        super().__init__(console)
        self._shown = shown
        self._handle: Any = None

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what is waited for."""
        self._show(f"{what} ...")
        yield

    def _line(self) -> None:
        tally = self._tally
        self._show(f"{self._verb} {tally.counts()}  {tally.words()}".rstrip())

    def _show(self, text: str) -> None:
        content = {"text/plain": text}
        if self._handle is None:
            self._handle = self._shown.display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
