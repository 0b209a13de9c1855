"""A signal while the command is loading ends it without a stack trace; later, Ctrl-C is told."""

import signal
import subprocess
import sys

import pytest

# Stopped as soon as it imports a module.
STOPPED_AT = """
import os, signal, sys
where, sys.argv[1:] = sys.argv[1], ["plan", "none"]
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == where:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Stop())
from orchestrator.cli.start import entry_point
entry_point()
"""


@pytest.mark.parametrize(
    ("module", "code", "words"),
    [
        ("typer", -signal.SIGINT, ""),
        ("orchestrator.cli.main", -signal.SIGINT, ""),
        ("orchestrator.status", 130, "stopped; run the same command again to resume\n"),
    ],
)
def test_ctrl_c_while_the_command_is_loading_shows_no_trace(module, code, words):
    ended = subprocess.run(
        [sys.executable, "-c", STOPPED_AT, module], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", words)
