"""The plan is a pure function of what is wanted and what is there."""

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.execution.jobs import Job
from orchestrator.execution.plan import join_plans, number_ranges, plan_jobs
from orchestrator.runs.sizing import auto_cohort_size


def ranges(plan):
    return [(job.first, job.last) for job in plan.jobs]


def test_literal_plans():
    assert ranges(plan_jobs(10, 4, ())) == [(0, 3), (4, 7), (8, 9)]
    assert ranges(plan_jobs(10, 4, range(10))) == []
    assert ranges(plan_jobs(10, 4, {0, 1, 2, 3, 5, 9})) == [(4, 4), (6, 7), (8, 8)]
    assert ranges(plan_jobs(20, 8, range(10))) == [(10, 15), (16, 19)]  # 10 tasks grown to 20


@settings(deadline=None)
@given(num_tasks=st.integers(1, 60), size=st.integers(1, 70), done=st.sets(st.integers(0, 80)))
def test_every_missing_task_is_planned_exactly_once_within_a_block(num_tasks, size, done):
    plan = plan_jobs(num_tasks, size, done)
    planned = [task for job in plan.jobs for task in job.tasks]
    assert planned == [task for task in range(num_tasks) if task not in done]
    assert plan.num_left + plan.num_done == num_tasks
    assert all(job.first // size == job.last // size for job in plan.jobs)


@settings(deadline=None)
@given(num_tasks=st.integers(1, 60), more=st.integers(0, 40), size=st.integers(1, 20))
def test_growing_keeps_what_is_done(num_tasks, more, size):
    grown = plan_jobs(num_tasks + more, size, range(num_tasks))
    assert [t for job in grown.jobs for t in job.tasks] == list(range(num_tasks, num_tasks + more))


def test_auto_cohort_size_keeps_to_memory_workers_and_eight_on_a_cpu():
    assert auto_cohort_size(2500, 2, 10**12, 10**6, on_gpu=False) == 8
    assert auto_cohort_size(10, 2, 10**12, 10**6, on_gpu=False) == 5
    assert auto_cohort_size(2500, 2, 4 * 10**6, 10**6, on_gpu=False) == 2  # half of 4 MB each
    assert auto_cohort_size(2500, 2, 10, 10**6, on_gpu=False) == 1
    assert auto_cohort_size(2500, 1, 10**12, 10**6, on_gpu=True) == 2500


def test_auto_cohorts_of_a_worker_are_of_equal_size_so_that_workers_end_together():
    assert auto_cohort_size(24, 2, 10**12, 10**6, on_gpu=False) == 6  # four cohorts; three of 8 left one idle
    assert auto_cohort_size(100, 4, 10**12, 10**6, on_gpu=False) == 7  # 25 a worker: four of 7, 7, 7 and 4


def test_jobs_name_themselves():
    assert str(Job(first=3, last=3)) == "train task 3"
    assert str(Job(first=0, last=7, kind="evaluate")) == "evaluate tasks 0-7"


def test_plans_are_joined_in_order():
    joined = join_plans([plan_jobs(4, 2, {0}), plan_jobs(2, 2, ())])
    assert ranges(joined) == [(1, 1), (2, 3), (0, 1)]
    assert (joined.num_done, joined.num_total, joined.num_left) == (1, 6, 5)


def test_numbers_are_told_as_ranges_and_at_most_twenty_of_them():
    assert number_ranges([7, 2, 0, 1, 3]) == "0-3, 7"
    assert number_ranges(range(0, 40, 2)).endswith(", 38")
    assert number_ranges(range(0, 44, 2)).endswith(", 38 and 2 more")
