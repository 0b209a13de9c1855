"""``sessions.json``: when a controller worked in a run folder, and how each time ended."""

import json
import time
from dataclasses import asdict, dataclass
from typing import Literal

from storage.files import commit_json
from storage.layout import RunLayout, host_name

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One controller's work. Unix times in seconds; ended_s and status: None while it goes on, or was killed."""

    started_s: float
    host: str
    ended_s: float | None = None
    status: Status | None = None


def read_sessions(layout: RunLayout) -> list[Session]:
    """Return the sessions of a run, the oldest first; none where the file is absent or unreadable."""
    try:
        return [Session(**row) for row in json.loads(layout.sessions.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def begin_session(layout: RunLayout) -> None:
    """Note that a controller begins."""
    _write(layout, [*read_sessions(layout), Session(started_s=time.time(), host=host_name())])


def end_session(layout: RunLayout, status: Status) -> None:
    """Note how the last session ended."""
    *before, last = read_sessions(layout) or [Session(started_s=time.time(), host=host_name())]
    ended = Session(started_s=last.started_s, host=last.host, ended_s=time.time(), status=status)
    _write(layout, [*before, ended])


def _write(layout: RunLayout, sessions: list[Session]) -> None:
    commit_json(layout.sessions, [asdict(session) for session in sessions])
