"""What decides the last bits of masks on this machine, known without importing torch."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core.machine import blas, instruction_set
from storage.files import commit_bytes
from storage.layout import cache_folder

ASK = "import torch; print(torch.__config__.show())"
ANSWER_LIMIT_S = 60.0


def arithmetic() -> dict[str, str]:
    """Return the vector instructions of torch, and its BLAS with version and the code that it picks here."""
    return {"instructions": instruction_set(), "blas": blas(_torch_build())}


def mix_note(made_with: Mapping[str, Any]) -> str | None:
    """Return a note if this machine's arithmetic is not that of a run's provenance; old runs do not name theirs."""
    here = arithmetic()
    differ = [
        name
        for name in here
        if {made_with.get(name), here[name]}.isdisjoint({None, "unknown"}) and made_with[name] != here[name]
    ]
    if not differ:
        return None
    there, now = (", ".join(f"{name} {one[name]}" for name in differ) for one in (made_with, here))
    return (
        f"note: this run was started with {there}; this machine has {now}; masks that are "
        "trained now may differ in a few bits from those of the first machine"
    )


@cache
def _torch_build() -> str:
    """Return ``torch.__config__.show()``: asked of another process once per installation, then kept in a file."""
    kept = _kept()
    with suppress(OSError):
        return kept.read_text()
    try:
        done = subprocess.run(  # noqa: S603  # our own words
            [sys.executable, "-P", "-c", ASK],
            capture_output=True,
            text=True,
            timeout=ANSWER_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    with suppress(OSError):
        commit_bytes(kept, done.stdout.encode())
    return done.stdout


def _kept() -> Path:
    """Return the file for torch's build, named after the place and the time of its installation."""
    found = find_spec("torch")
    origin = Path(found.origin) if found and found.origin else Path()
    name = hashlib.sha256(f"{origin} {origin.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    return cache_folder() / f"torch-build-{name}.txt"
