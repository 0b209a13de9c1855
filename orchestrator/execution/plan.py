"""The jobs that are left, given the tasks already done. Pure."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from orchestrator.execution.jobs import Job, Request
from storage.mask_files import MaskFiles

MAX_RANGES = 20  # in a message


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The jobs to run, in order.

    num_done: tasks (of a stream: decisions) that need no job. num_total: all tasks. note: for the
    user, if there is no job.
    """

    jobs: tuple[Job, ...]
    num_done: int
    num_total: int
    note: str | None = None

    @property
    def num_left(self) -> int:
        """Tasks that the jobs cover."""
        return sum(len(job.tasks) for job in self.jobs)


def plan_jobs(
    num_tasks: int,
    cohort_size: int,
    done: Collection[int],
    *,
    kind: str = "train",
    request: Request | None = None,
    in_order: bool = False,
    note: str | None = None,
) -> Plan:
    """Cut the missing tasks of 0 .. num_tasks - 1 at fixed multiples of ``cohort_size``."""
    missing = [task for task in range(num_tasks) if task not in done]
    jobs = tuple(
        Job(first=run[0], last=run[-1], kind=kind, request=request, in_order=in_order)
        for run in _runs(missing, cohort_size)
    )
    return Plan(jobs=jobs, num_done=num_tasks - len(missing), num_total=num_tasks, note=note)


def with_files(plan: Plan, files: MaskFiles) -> Plan:
    """Return the plan with jobs that name the files of their tasks' masks."""
    return replace(plan, jobs=tuple(replace(job, files=files.holding(job.tasks)) for job in plan.jobs))


def join_plans(plans: Iterable[Plan]) -> Plan:
    """Return one plan with the jobs of all plans, in order."""
    plans = list(plans)
    return Plan(
        jobs=tuple(job for plan in plans for job in plan.jobs),
        num_done=sum(plan.num_done for plan in plans),
        num_total=sum(plan.num_total for plan in plans),
    )


def number_ranges(numbers: Collection[int]) -> str:
    """Return numbers as ranges, such as ``0-3, 7``; at most 20 of them."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    words = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    more = len(words) - MAX_RANGES
    return ", ".join(words[:MAX_RANGES]) + (f" and {more} more" if more > 0 else "")


def _runs(missing: Sequence[int], cohort_size: int) -> Iterator[list[int]]:
    """Split ascending tasks at gaps and at multiples of ``cohort_size``."""
    run: list[int] = []
    for task in missing:
        if run and (task != run[-1] + 1 or task % cohort_size == 0):
            yield run
            run = []
        run.append(task)
    if run:
        yield run
