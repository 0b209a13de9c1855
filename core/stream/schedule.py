"""The stream of batches of scenario NNs: visits to tasks, with boundaries hidden from the model.

New tasks come in order; some return later, some are visited twice in a row. The schedule is
drawn from its own random stream before training starts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.seeding import stream
from core.specs.run import RunSpec

VisitKind = Literal["new", "return", "repeat"]


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Batches ``first`` to ``first + num_batches - 1`` of the stream, all of one task.

    kind: a ``new`` task, a ``return`` to one seen before, or a ``repeat`` of the one just seen.
    num_seen: batches of this task in earlier visits; its images continue from there.
    """

    task: int
    first: int
    num_batches: int
    kind: VisitKind
    num_seen: int

    @property
    def end(self) -> int:
        """The first batch after the visit."""
        return self.first + self.num_batches


def plan_visits(spec: RunSpec) -> tuple[Visit, ...]:
    """Return all visits of the stream of ``spec``, in order."""
    assert spec.training.stream is not None, "a spec without task identity has a stream"
    draw = stream(spec.seed, "visits")
    tasks = _order_tasks(spec, draw)
    visits: list[Visit] = []
    num_seen: dict[int, int] = {}
    for i, (task, length) in enumerate(zip(tasks, _lengths(spec, len(tasks), draw), strict=True)):
        kind: VisitKind = "new" if task not in num_seen else "repeat" if task == tasks[i - 1] else "return"
        first, before = visits[-1].end if visits else 0, num_seen.get(task, 0)
        visits.append(Visit(task=task, first=first, num_batches=length, kind=kind, num_seen=before))
        num_seen[task] = before + length
    return tuple(visits)


def num_decisions(spec: RunSpec) -> int:
    """Return the number of decisions in the whole stream."""
    assert spec.training.allocation is not None, "a spec without task identity allocates"
    return -(-plan_visits(spec)[-1].end // spec.training.allocation.decide_every)


def segments(visits: tuple[Visit, ...], first: int, end: int) -> Iterator[tuple[Visit, int, int]]:
    """Yield (visit, first, end): the part of each visit in batches ``first`` to ``end - 1``."""
    for visit in visits:
        start, stop = max(first, visit.first), min(end, visit.end)
        if start < stop:
            yield visit, start, stop


def _order_tasks(spec: RunSpec, draw: np.random.Generator) -> list[int]:
    """Return the task of each visit: new ones in order, with random repeats and returns in between."""
    rules, num_tasks = spec.training.stream, spec.benchmark.num_tasks
    assert rules is not None
    after: list[list[int]] = [[] for _ in range(num_tasks)]
    for seen in draw.integers(0, num_tasks, size=round(rules.repeat_share * num_tasks)):
        after[seen].append(int(seen))
    num_returns = round(rules.return_share * num_tasks) if num_tasks > 1 else 0
    for seen in draw.integers(1, max(num_tasks, 2), size=num_returns):
        after[seen].append(int(draw.integers(0, seen)))
    return [task for new in range(num_tasks) for task in (new, *after[new])]


def _lengths(spec: RunSpec, num_visits: int, draw: np.random.Generator) -> list[int]:
    rules, steps = spec.training.stream, spec.training.num_steps
    assert rules is not None
    if rules.boundaries == "aligned":
        return [steps] * num_visits
    slack = round(rules.length_jitter * steps)
    return [
        int(length) for length in draw.integers(max(1, steps - slack), steps + slack + 1, size=num_visits)
    ]
