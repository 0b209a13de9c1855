"""TensorBoard as a tracker: one event file in the run folder, which ``tensorboard --logdir runs`` shows.

Each session, and ``supsup sync``, begins a new file and empties the old one. A TensorBoard that is open goes on with the
new one, and drops what it read before; it would wait for ever for a file that was removed, so that happens one session
later. In an object store, where nothing can be appended, the file is written when a session ends.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from orchestrator.tracking import tensorboard_events as events
from orchestrator.tracking.base import Place
from orchestrator.tracking.messages import TrackedEnd, TrackedRun, TrackedTask
from storage.files import commit_bytes
from storage.locations import Location, ObjectPath, listed

NAME = "events.out.tfevents"  # by which TensorBoard knows its files


@dataclass
class TensorBoardFiles:
    """The event file of one run. created_s: when the run was."""

    folder: Location
    created_s: float = 0.0
    _path: Location | None = None
    _unsent: bytearray = field(default_factory=bytearray)  # for an object store

    def open(self, run: TrackedRun) -> None:
        """Begin a new file with the settings of the run."""
        for old in listed(self.folder, f"{NAME}.*"):
            _retire(old)
        self.created_s = run.created_s
        self._unsent = bytearray()
        self._path = self.folder / f"{NAME}.{time.time():.6f}.{run.fingerprint[:8]}"
        settings = events.hyperparameters(run.params, run.created_s)
        head = events.start(run.created_s) + settings
        if isinstance(self._path, ObjectPath):
            self._unsent += head
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(head)

    def tasks(self, tasks: Sequence[TrackedTask]) -> None:
        """Append the metrics of tasks; the step is the task."""
        self._append(b"".join(map(_of_task, tasks)))

    def end(self, end: TrackedEnd) -> None:
        """Append results by number of tasks, figures and the note."""
        by_step = groupby(sorted(end.metrics, key=lambda one: one[1]), key=lambda one: one[1])
        found = [
            events.scalars({key: value for key, _, value in of_step}, step, self.created_s)
            for step, of_step in by_step
        ]
        found += [
            events.image(f"{folder}/{path.stem}", path.read_bytes(), end.num_masks, self.created_s)
            for path, folder in end.artifacts
            if path.suffix == ".png"
        ]
        found.append(events.text("note", end.note, self.created_s))
        found.append(events.finish(end.ended_s, is_good=end.status == "FINISHED"))
        self._append(b"".join(found))
        if isinstance(self._path, ObjectPath):
            commit_bytes(self._path, bytes(self._unsent))

    def _append(self, content: bytes) -> None:
        if self._path is None or isinstance(self._path, ObjectPath):
            self._unsent += content
            return
        with self._path.open("r+b") as file:  # not "ab", which would begin a file without a head
            file.seek(0, 2)
            file.write(content)


def _retire(old: Location) -> None:
    if isinstance(old, ObjectPath) or old.stat().st_size == 0:
        old.unlink()
    else:
        os.truncate(old, 0)


def _of_task(task: TrackedTask) -> bytes:
    values = {f"task/{key}": value for key, value in task.metrics.items()}
    return events.scalars(values, task.task, task.finished_s)


def make(place: Place) -> TensorBoardFiles:
    """Return the event file of a run."""
    return TensorBoardFiles(place.folder)
