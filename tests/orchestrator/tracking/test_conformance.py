"""Every tracker, ours and others, keeps the promises of ``Tracker``; and the check finds those that do not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar

import pytest

from orchestrator.tracking.base import Place
from orchestrator.tracking.conformance import BreachError, Point, check_tracker
from orchestrator.tracking.registry import OURS
from tests.orchestrator.tracking.readers import READABLE

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations
has_wandb = find_spec("wandb") is not None
needs_wandb = pytest.mark.skipif(not has_wandb, reason="needs wandb: pip install 'supsup[wandb]'")
MARKS = {"mlflow": [pytest.mark.slow], "wandb": [needs_wandb, pytest.mark.slow, pytest.mark.long]}


def test_all_of_ours_are_checked():
    assert READABLE.keys() == OURS.keys()


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in OURS])
def test_a_tracker_of_ours_keeps_its_promises(name):
    check_tracker(READABLE[name])


@dataclass
class Table:
    """A tracker that keeps its promises; those derived from it break one each. shown: outlives a session, by place."""

    place: Place
    shown: ClassVar[dict[Any, list[Point]]] = {}
    sent: list[Point] = field(default_factory=list)

    def open(self, run) -> None:
        self.shown[self.place.folder] = []

    def tasks(self, tasks) -> None:
        self.add((f"task/{key}", one.task, value) for one in tasks for key, value in one.metrics.items())

    def end(self, end) -> None:
        self.add(end.metrics)

    def add(self, points) -> None:
        self.shown[self.place.folder] += points

    def points(self) -> list[Point]:
        return self.shown[self.place.folder]


class Appends(Table):
    def open(self, run) -> None:
        self.shown.setdefault(self.place.folder, [])


class AppendsWithinASession(Table):
    def __init__(self, place) -> None:
        super().__init__(place)
        self.shown[place.folder] = []

    def open(self, run) -> None:
        pass


class ForgetsTheFirstTask(Table):
    def tasks(self, tasks) -> None:
        super().tasks([one for one in tasks if one.task])


class Rounds(Table):
    def add(self, points) -> None:
        super().add((key, step, round(value, 2)) for key, step, value in points)


class Counts(Table):
    def end(self, end) -> None:
        super().end(end)
        self.add([("num_tasks", 1, 3.0)])


class KnowsOneSession(Table):
    """Takes nothing from a session that goes on with what another one began."""

    opened: ClassVar[set[Any]] = set()

    def open(self, run) -> None:
        if self.place.folder in self.opened:
            raise FileExistsError(self.place.folder)
        self.opened.add(self.place.folder)
        super().open(run)


class Unmakeable(Table):
    def __init__(self, place) -> None:
        raise OSError("no such server")


def test_a_tracker_in_memory_passes():
    check_tracker(Table)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Appends, r"when all is sent again: task/test_accuracy at step 0 is shown 2 times, expected once"),
        (AppendsWithinASession, r"when all is sent again: .* is shown 2 times, expected once"),
        (ForgetsTheFirstTask, r"in the first session: task/test_accuracy at step 0 is not shown"),
        (Rounds, r"in the first session: task/test_accuracy at step 1 is 0\.9, expected 0\.901"),
        (Counts, r"in the first session: num_tasks at step 1 is shown, and was never sent"),
        (KnowsOneSession, r"when all is sent again: open raised FileExistsError: .*; expected it to return"),
        (Unmakeable, r"in the first session: being made raised OSError: no such server"),
    ],
)
def test_a_broken_promise_is_named(make: Callable[[Place], Any], words: str):
    with pytest.raises(BreachError, match=words):
        check_tracker(make)


def test_a_tracker_that_cannot_be_read_is_still_called():
    class Mute(Table):
        points = None

    class Raises(Mute):
        def end(self, end) -> None:
            raise RuntimeError("half way")

    check_tracker(Mute)
    with pytest.raises(BreachError, match="end raised RuntimeError: half way"):
        check_tracker(Raises)
