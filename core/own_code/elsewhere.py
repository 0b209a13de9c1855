"""Asks a question in another process, as each worker is one. No torch.

Python's hashes of texts, and with them the order of sets, differ from process to process, and so does what
a file draws or measures when it is imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from core.rooms import python

HASH_SEED = "PYTHONHASHSEED"


def ask_elsewhere(code: str, question: Mapping[str, Any]) -> "subprocess.CompletedProcess[str]":
    """Run ``code`` in a process of its own, whose texts have other hashes, and return what it printed.

    question: for ``asked``, which also gives the process our path.
    """
    return subprocess.run(
        python(code),
        input=json.dumps({**question, "path": sys.path}),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=_environment(os.environ),
    )


def asked() -> dict[str, Any]:
    """Return the question that this process was started with, and look for modules where the one that asks does."""
    question: dict[str, Any] = json.loads(sys.stdin.read())
    sys.path[:] = question["path"]
    return question


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    folders = [entry for entry in sys.path if entry]
    other = "2" if own.get(HASH_SEED) == "1" else "1"
    return {**own, HASH_SEED: other, "PYTHONPATH": os.pathsep.join(folders)}
