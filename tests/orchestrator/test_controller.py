"""The loop, driven by a scripted executor and a clock that only sleeping moves."""

import pytest

from core.errors import TrainingError
from orchestrator.controller import RetryPolicy, run_jobs
from orchestrator.jobs import Job
from tests.orchestrator.fakes import Clock, Recorder, ScriptedExecutor

LOST, BAD = OSError("lost"), TrainingError("bad")


def drive(script, jobs, max_retries=2, num_slots=2):
    executor, watcher, clock = ScriptedExecutor(script, num_slots), Recorder(), Clock()
    policy = RetryPolicy(max_retries=max_retries)
    failures = run_jobs(jobs, executor, policy, watcher, clock=clock, sleep=clock.sleep)
    return executor, watcher, clock, failures


def test_all_jobs_run_once_in_order_and_never_more_than_there_are_slots():
    executor, watcher, _, failures = drive({}, [Job(first=i, last=i) for i in range(9)], num_slots=3)
    assert executor.submitted == [(i, i) for i in range(9)]
    assert executor.most_out == 3
    assert len(watcher.events) == 9
    assert failures == ()


def test_a_lost_worker_is_tried_again_later_elsewhere_and_the_rest_goes_on():
    jobs = [Job(first=0, last=0), Job(first=1, last=1)]
    executor, watcher, clock, failures = drive({(0, 0): [LOST, LOST]}, jobs)
    assert failures == ()
    assert watcher.events == [
        ("retried", 0, 0, 0.5),
        ("done", 1, 1),
        ("retried", 0, 0, 1.0),
        ("done", 0, 0),
    ]
    assert executor.avoided == [None, None, "w", "w"]
    assert clock.now_s >= 1.5


def test_a_job_is_given_up_after_its_retries_and_reported():
    _, watcher, _, failures = drive({(0, 0): [LOST] * 9}, [Job(first=0, last=0), Job(first=1, last=1)])
    assert [(f.job.first, f.num_attempts, str(f.error)) for f in failures] == [(0, 3, "lost")]
    assert ("done", 1, 1) in watcher.events
    assert watcher.events[-1] == ("failed", 0, 0, 3)


def test_a_failure_that_would_repeat_is_not_retried():
    _, watcher, clock, failures = drive({(0, 0): [BAD]}, [Job(first=0, last=0)])
    assert watcher.events == [("failed", 0, 0, 1)]
    assert clock.now_s == 0
    assert len(failures) == 1


def test_one_bad_task_does_not_take_its_cohort_down():
    _, watcher, _, failures = drive({(0, 3): [BAD], (2, 2): [BAD]}, [Job(first=0, last=3)])
    assert [failure.job.first for failure in failures] == [2]
    assert [event[1] for event in watcher.events if event[0] == "done"] == [0, 1, 3]


def test_delays_grow_and_stop_growing():
    policy = RetryPolicy(max_retries=20)
    delays = [policy.delay_s(LOST, attempt) for attempt in range(1, 12)]
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(delays) == 30.0
    assert policy.delay_s(LOST, 21) is None


def test_an_interrupt_passes_through():
    class Interrupting(ScriptedExecutor):
        def collect(self, timeout_s):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([Job(first=0, last=0)], Interrupting(), RetryPolicy(max_retries=0), Recorder())
