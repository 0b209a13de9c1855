"""Ending every process of a session, whoever started it.

Ray's raylet and head end with the process that started them. Their agents and workers notice the loss by themselves, but
one that was just starting takes a minute or more. All of them stay in the session of the process that started Ray.
"""

import os
import time
from contextlib import suppress

import psutil

LIMIT_S = 5.0  # for processes to go that were killed


def end_session(leader: int) -> None:
    """Kill the processes of the session that ``leader`` began, and what they start meanwhile; it is not killed itself."""
    until_s = time.monotonic() + LIMIT_S
    while (members := _members(leader)) and time.monotonic() < until_s:
        for process in members:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(members, timeout=0.1)


def _members(leader: int) -> list[psutil.Process]:
    found = []
    for number in psutil.pids():
        with suppress(psutil.Error, OSError):  # it has ended meanwhile
            if number != leader and os.getsid(number) == leader:
                process = psutil.Process(number)
                found += [process] if process.status() != psutil.STATUS_ZOMBIE else []
    return found
