"""What a tracker is: one place that shows runs, such as MLflow or the files of TensorBoard.

A tracker shows what it is given and decides nothing: when it is called, and what happens when a call fails, is up to
``orchestrator.tracking.tracker``. ``orchestrator.tracking.conformance.check_tracker`` tests the promises below.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.tracking.messages import TrackedEnd, TrackedRun, TrackedTask
from storage.locations import Location


class Tracker(Protocol):
    """Shows one run. The calls come one at a time, from a thread of their own: training waits for none of them.

    The run folder is the truth, and everything is sent again whenever there is doubt. After any error, in a new
    session, and for ``supsup sync``, the calls begin anew with ``open``, and every task comes once more. So what an
    earlier process left, or a call that failed half way, is completed or replaced, and nothing is ever shown twice.

    At its end a session waits for what is left until a tracker has taken nothing for 15 s, or for ``patience_s`` if the
    tracker has that attribute.
    """

    def open(self, run: TrackedRun) -> None:
        """Begin to show a run, or go on: its name, settings and tags."""
        ...

    def tasks(self, tasks: Sequence[TrackedTask]) -> None:
        """Show trained tasks, each of which comes once after ``open``; the step is the task."""
        ...

    def end(self, end: TrackedEnd) -> None:
        """Show what was measured, by number of tasks. When this returns, everything can be seen."""
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tracker may keep what it shows. folder: its own, in the run folder; it need not exist.

    uri: the store of MLflow, absolute.
    """

    folder: Location
    uri: str | None = None


Step = Callable[[], object]
MakeTracker = Callable[[Place], Tracker]
