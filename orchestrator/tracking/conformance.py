"""Tests a tracker's promises (``orchestrator.tracking.base.Tracker``) on made-up runs.

    from orchestrator.tracking.conformance import check_tracker

    check_tracker(make)   # what the entry point names; raises BreachError, which says what is wrong

A tracker with a method ``points()`` is held to its contents, others only to taking the calls. It returns (key, step, value)
of all that the tracker shows of the run, as often as it shows it, read from where it shows it.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Protocol, runtime_checkable

from core.errors import SupSupError, first_line
from orchestrator.tracking.base import MakeTracker, Place, Step, Tracker
from orchestrator.tracking.messages import FailedTask, TrackedEnd, TrackedRun, TrackedTask

NUM_TASKS = 5
TOLERANCE = 1e-3  # MLflow's pages have four digits
Point = tuple[str, int, float]


class BreachError(SupSupError):
    """A tracker breaks a promise; the message says which, and how."""


@runtime_checkable
class ReadableTracker(Tracker, Protocol):
    """A tracker whose contents can be read back."""

    def points(self) -> Iterable[Point]:
        """Return (key, step, value) of all that is shown of the run."""
        ...


def check_tracker(make: MakeTracker) -> None:
    """Hold the trackers that ``make`` returns to their promises, in a temporary folder. Raises BreachError."""
    with tempfile.TemporaryDirectory(prefix="supsup-check-") as folder:
        for number, check in enumerate(CHECKS):
            place = Place(
                folder=Path(folder) / f"run-{number}" / "trackers", uri=f"sqlite:///{folder}/mlflow.db"
            )
            check(_Checked(make, place, fingerprint=f"{number:08x}" * 8))


@dataclass
class _Checked:
    """A tracker, and the run that one check sends to it. situation: in messages."""

    make: MakeTracker
    place: Place
    fingerprint: str
    situation: str = ""

    def new(self) -> Tracker:
        """Make the tracker, as a new session does."""
        made: list[Tracker] = []
        self.call("being made", lambda: made.append(self.make(self.place)))
        return made[0]

    def steps(self, tracker: Tracker, num_tasks: int = NUM_TASKS) -> list[tuple[str, Step]]:
        """Return the calls, by name, that send the whole run; the tasks come in two parts."""
        tasks = made_up_tasks(num_tasks)
        return [
            ("open", lambda: tracker.open(made_up_run(self.fingerprint))),
            ("tasks", lambda: tracker.tasks(tasks[:2])),
            ("tasks", lambda: tracker.tasks(tasks[2:])),
            ("end", lambda: tracker.end(made_up_end(num_tasks))),
        ]

    def send(self, tracker: Tracker, num_tasks: int = NUM_TASKS) -> None:
        """Send the whole run and look at what is shown."""
        for name, step in self.steps(tracker, num_tasks):
            self.call(name, step)
        if isinstance(tracker, ReadableTracker):
            self.compare(list(tracker.points()), expected_points(num_tasks))

    def call(self, name: str, step: Step) -> None:
        """Call the tracker. Raises BreachError if it raises."""
        try:
            step()
        except Exception as error:  # the tracker is not ours
            why = f"{type(error).__name__}: {first_line(error)}"
            raise BreachError(f"{self.situation}: {name} raised {why}; expected it to return") from error

    def compare(self, shown: list[Point], expected: list[Point]) -> None:
        """Raise BreachError unless exactly the expected points are shown."""
        counts, values = Counter((key, step) for key, step, _ in shown), {(k, s): v for k, s, v in shown}
        for key, step, value in expected:
            found, number = values.pop((key, step), None), counts[key, step]
            if found is None:
                self.breach(key, step, "is not shown")
            elif number > 1:
                self.breach(key, step, f"is shown {number} times, expected once")
            elif not isclose(found, value, rel_tol=TOLERANCE):
                self.breach(key, step, f"is {found:g}, expected {value:g}")
        for key, step in values:
            self.breach(key, step, "is shown, and was never sent")

    def breach(self, key: str, step: int, what: str) -> None:
        """Raise BreachError about a point."""
        raise BreachError(f"{self.situation}: {key} at step {step} {what}")


def _first(checked: _Checked) -> None:
    checked.situation = "in the first session"
    checked.send(checked.new())


def _again(checked: _Checked) -> None:
    checked.situation = "when all is sent again"
    tracker = checked.new()
    for one in (tracker, tracker, checked.new()):
        checked.send(one)


def _killed(checked: _Checked) -> None:
    """Kill the session after each call; another one goes on."""
    for number in range(1, 4):
        checked.situation = f"after a session that was killed after {number} of 4 calls"
        for name, step in checked.steps(checked.new())[:number]:
            checked.call(name, step)
        checked.send(checked.new())


def _answer_lost(checked: _Checked) -> None:
    """Let each call do its work and fail then: the same session begins anew."""
    tracker = checked.new()
    for number in range(1, 5):
        checked.situation = f"after call {number} of 4 was done and seemed to fail"
        for name, step in checked.steps(tracker)[:number]:
            checked.call(name, step)
        checked.send(tracker)


def _grown(checked: _Checked) -> None:
    checked.situation = "before the run grows"
    checked.send(checked.new(), NUM_TASKS - 2)
    checked.situation = "after the run has grown"
    checked.send(checked.new())


CHECKS: tuple[Callable[[_Checked], None], ...] = (_first, _again, _killed, _answer_lost, _grown)


def made_up_run(fingerprint: str) -> TrackedRun:
    """Return a run with settings of each type."""
    return TrackedRun(
        experiment="conformance",
        name=f"conformance-{fingerprint[:8]}",
        fingerprint=fingerprint,
        created_s=1.7e9,
        params={
            "seed": 3,
            "training.lr": 0.01,
            "evaluation.scenarios": ["GG"],
            "mask.rule": "top_k",
            "x": True,
        },
        tags={"supsup.num_tasks": str(NUM_TASKS)},
        task_runs="all",
        dataset="synthetic",
    )


def made_up_tasks(num_tasks: int) -> tuple[TrackedTask, ...]:
    """Return trained tasks."""
    return tuple(
        TrackedTask(
            task=task,
            metrics={"test_accuracy": 0.9 + task / 1000, "train_loss": 0.5 - task / 100},
            tags={"supsup.mask_file": f"cohort-{task:05d}-{task:05d}.parquet"},
            started_s=1.7e9 + task,
            finished_s=1.7e9 + task + 1,
        )
        for task in range(num_tasks)
    )


def made_up_end(num_tasks: int) -> TrackedEnd:
    """Return the end of a run with a failed task, results at each k, and a note."""
    return TrackedEnd(
        status="FINISHED",
        ended_s=1.7e9 + 60,
        metrics=tuple(("GG/accuracy", k, 0.95 - k / 100) for k in range(1, num_tasks + 1)),
        failed=(FailedTask(task=NUM_TASKS, error="no luck", failed_s=1.7e9 + 50),),
        note="### A run\n\nIt finished: 100 %, in Zürich.",
    )


def expected_points(num_tasks: int) -> list[Point]:
    """Return what has to be shown of the made-up run."""
    tasks, end = made_up_tasks(num_tasks), made_up_end(num_tasks)
    of_tasks = [(f"task/{key}", one.task, value) for one in tasks for key, value in one.metrics.items()]
    return [*of_tasks, *end.metrics]
