"""Where results come from: versions, git commit, processor, host."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("supsup", "torch", "numpy", "pyarrow", "ray", "mlflow")


def provenance() -> dict[str, Any]:
    """Return versions, git commit of this code (None outside a checkout), processor and cores.

    cores: those of the controller's machine that it may use.
    """
    return {
        "python": platform.python_version(),
        **{name: package_version(name) for name in PACKAGES},
        "git_commit": git_commit(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def package_version(name: str) -> str | None:
    """Return an installed package's version without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit of the source tree, with ``+changes`` where it was edited."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(folder),
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        "--dirty=+changes",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def processor() -> str:
    """Return the processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
