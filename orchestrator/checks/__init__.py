"""Conformance of what users add: data sets, tasks, networks, methods, trackers. One check a kind, each in its own file.

A check returns what it found, in lines for people, and raises SupSupError with the first promise that is broken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What a check may need. folder: of data sets. outputs: of a network. shape: channels, height and width."""

    folder: Path | None = None
    outputs: int = 10
    shape: tuple[int, int, int] = (3, 32, 32)


Check = Callable[[str, CheckOptions], list[str]]
CHECKS = {
    "data": "orchestrator.checks.data:check_data",
    "tasks": "orchestrator.checks.data:check_tasks",
    "network": "orchestrator.checks.network:check_own_network",
    "method": "orchestrator.checks.method:check_method",
    "tracker": "orchestrator.checks.tracker:check_own_tracker",
}


def find_check(kind: str) -> Check:
    """Return the check of a kind, loaded only now: each needs other libraries."""
    module, _, name = CHECKS[kind].partition(":")
    found: Check = getattr(import_module(module), name)
    return found
