"""Progress for Python: as the command line shows it, in a notebook as lines of one output."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from core.printing import printable
from orchestrator.cli.display import MessagesOnly, PlainDisplay, make_display
from orchestrator.execution.progress import Display


def make_progress(*, quiet: bool = False) -> Display:
    """Return the display for where this process runs."""
    console = Console(stderr=True)
    shell = _notebook()
    if shell is None:
        return make_display(console, quiet=quiet)
    return (QuietNotebookDisplay if quiet else NotebookDisplay)(console, shell)


def _notebook() -> Any:
    """Return the functions to show things with in a notebook, None elsewhere."""
    shell = sys.modules.get("IPython")
    if shell is None or type(shell.get_ipython()).__name__ != "ZMQInteractiveShell":
        return None
    return sys.modules["IPython.display"]


class NotebookDisplay(PlainDisplay):
    """The lines of a cell's output, in the order in which they began; the last one changes."""

    def __init__(self, console: Console, shown: Any) -> None:
        super().__init__(console)
        self._shown = shown
        self._handle: Any = None
        self._lines: dict[object, str] = {}

    def stop(self) -> None:
        """Show the last counts of the phase, which stay."""
        if self._verb and not self._ended.is_set():
            self._line()
        super().stop()

    def message(self, text: str) -> None:
        """Show a line that stays."""
        self._show(object(), printable(text))

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what is waited for, until it has come."""
        key = object()
        self._show(key, f"{what} ...")
        try:
            yield
        finally:
            del self._lines[key]
            self._draw()

    def _line(self) -> None:
        self._shown_s = time.monotonic()
        tally = self._tally
        self._show(self._verb, f"{self._verb} {tally.counts()}  {tally.words()}".rstrip())

    def _show(self, key: object, line: str) -> None:
        self._lines[key] = line
        self._draw()

    def _draw(self) -> None:
        content = {"text/plain": "\n".join([*self._lines.values()])}
        if self._handle is None:
            self._handle = self._shown.display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


class QuietNotebookDisplay(MessagesOnly, NotebookDisplay):
    """Messages only, in a notebook."""
