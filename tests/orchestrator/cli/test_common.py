"""Exit codes and messages, whatever is raised."""

import pytest
import typer

from core.errors import ConfigError, RunLockedError, SupSupError
from orchestrator.cli.common import call, parse_tasks
from orchestrator.session import StoppedError

OUTCOMES = [
    (ConfigError("seed: bad"), 2, "error: seed: bad"),
    (RunLockedError("already running"), 3, "already running"),
    (StoppedError("stopped: 1 of 2"), 130, "stopped: 1 of 2"),
    (SupSupError("no luck"), 1, "no luck"),
    (OSError(28, "No space left on device", "x"), 1, "error: No space left on device (x)"),
    (KeyError("[x]"), 1, "a bug in supsup: KeyError: '[x]'"),
    (KeyboardInterrupt(), 130, "stopped"),
]


@pytest.mark.parametrize(("error", "code", "words"), OUTCOMES)
def test_each_error_is_one_message_and_its_exit_code(capsys, error, code, words):
    def command(**arguments):
        raise error

    assert call(command) == code
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown


def test_a_stop_that_the_command_lines_library_takes_is_told_too(capsys):
    app = typer.Typer()

    @app.command()
    def main():
        raise KeyboardInterrupt

    assert call(app, []) == 130
    assert "stopped; run the same command again" in capsys.readouterr().err


def test_debug_shows_where(capsys):
    def command(**arguments):
        raise ConfigError("seed: bad")

    with pytest.raises(ConfigError):
        call(command, debug=True)


@pytest.mark.parametrize(("text", "tasks"), [("all", [0, 1, 2, 3]), ("2", [2]), ("3,0-1", [0, 1, 3])])
def test_task_lists(text, tasks):
    assert parse_tasks(text, 4) == tasks
