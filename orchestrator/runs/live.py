"""``live.json``: how far the controller at work is, for ``supsup status`` in another process."""

import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from core.errors import DamagedFileError
from orchestrator.execution.counts import Counts
from storage.files import commit_json
from storage.json_file import read_json
from storage.layout import RunLayout
from storage.locations import ObjectPath

WRITE_EVERY_S = 3.0
WRITE_OBJECT_EVERY_S = 15.0
OLD_S = 60.0  # from then on the file says nothing about now; also what clocks may differ by


@dataclass(frozen=True, kw_only=True)
class LiveProgress:
    """How far a phase is. num_steps_done, num_steps: of the jobs at work, None where they report none.

    per_min: tasks (or ``unit``) a minute, and left_s: seconds left; None until known. written_s: Unix time.
    """

    verb: str
    unit: str
    num_done: int
    num_total: int
    num_steps_done: int | None
    num_steps: int | None
    per_min: float | None
    left_s: float | None
    num_busy: int
    written_s: float


@dataclass
class LiveFile:
    """Writes the counts of a phase into the run folder, now and then."""

    layout: RunLayout
    verb: str
    counts: Counts
    _written_s: float = 0.0

    def update(self) -> None:
        """Write the counts, unless the file is recent."""
        is_object = isinstance(self.layout.live, ObjectPath)
        every_s = WRITE_OBJECT_EVERY_S if is_object else WRITE_EVERY_S
        if time.monotonic() - self._written_s >= every_s:
            self._written_s = time.monotonic()
            with suppress(OSError):  # a full disk must not end the run here
                commit_json(self.layout.live, asdict(self._live()))

    def remove(self) -> None:
        """Remove the file: the phase is over."""
        with suppress(OSError):
            self.layout.live.unlink(missing_ok=True)

    def _live(self) -> LiveProgress:
        counts = self.counts
        steps, speed = counts.running, counts.speed()
        return LiveProgress(
            verb=self.verb,
            unit=counts.unit,
            num_done=counts.num_done,
            num_total=counts.num_total,
            num_steps_done=None if steps is None else steps.done,
            num_steps=None if steps is None else steps.total,
            per_min=None if speed is None else 60 * speed[0],
            left_s=None if speed is None else speed[1],
            num_busy=counts.num_busy,
            written_s=time.time(),
        )


def read_live(layout: RunLayout) -> LiveProgress | None:
    """Return how far the controller is, None if the file is missing or too old. Ask only of a locked run."""
    try:
        live = read_json(layout.live, LiveProgress)
    except (OSError, DamagedFileError):
        return None
    return live if time.time() - live.written_s < OLD_S else None
