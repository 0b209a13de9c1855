"""What a notebook's cell shows of a run: the lines of one output, in their order."""

from types import SimpleNamespace

import pytest
from rich.console import Console

import supsup.progress
from supsup.progress import NotebookDisplay, QuietNotebookDisplay, make_progress


class Shown:
    """Stands in for ``IPython.display``: one output."""

    def __init__(self) -> None:
        self.text, self.num_outputs = "", 0

    def display(self, content, *, raw, display_id):
        self.num_outputs += 1
        self.update(content, raw=raw)
        return self

    def update(self, content, *, raw):
        self.text = content["text/plain"]


@pytest.fixture
def shown():
    return Shown()


def test_lines_stay_in_the_order_in_which_they_began_and_waiting_leaves_none(shown):
    display = NotebookDisplay(Console(), shown)
    with display.doing("reading digits"):
        assert shown.text == "reading digits ..."
    display.message("run-1: 2 tasks")
    display.start("training", 2, 0)
    display.message("a warning")
    display.count(2)
    display.stop()
    display.start("inferring tasks", 3, 0)
    display.count(1)
    display.stop()
    with pytest.raises(KeyboardInterrupt), display.doing("drawing"):
        raise KeyboardInterrupt
    lines = shown.text.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "run-1: 2 tasks", "training 2/2 tasks", "a warning", "inferring tasks 1/3 tasks"
    ]  # fmt: skip
    assert shown.num_outputs == 1


def test_a_message_cannot_steer_the_page(shown):
    NotebookDisplay(Console(), shown).message("\x1b[31mred")
    assert shown.text == r"\x1b[31mred"


def test_quiet_shows_messages_alone(shown):
    display = QuietNotebookDisplay(Console(), shown)
    with display.doing("reading digits"):
        assert shown.text == ""
    display.start("training", 2, 0)
    display.count(2)
    display.stop()
    display.message("a warning")
    assert shown.text == "a warning"


@pytest.mark.parametrize(("quiet", "kind"), [(False, NotebookDisplay), (True, QuietNotebookDisplay)])
def test_notebooks_are_told_by_their_shell(monkeypatch, quiet, kind):
    assert not isinstance(make_progress(quiet=quiet), NotebookDisplay)
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(supsup.progress.sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(supsup.progress.sys.modules, "IPython.display", SimpleNamespace())
    assert type(make_progress(quiet=quiet)) is kind
