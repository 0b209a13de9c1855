"""The loop, driven by a scripted executor and a clock that only sleeping moves."""

from dataclasses import dataclass, replace

import pytest

from core.errors import ForeignWorkerError, LostWorkerError, TrainingError
from orchestrator.execution.controller import POLL_S, WAITING_NOTICE_S, run_jobs
from orchestrator.execution.jobs import Job, StepsDone
from orchestrator.execution.retry_policy import RetryPolicy
from tests.orchestrator.fakes import Clock, Recorder, ScriptedExecutor

LOST, BAD = LostWorkerError("lost"), TrainingError("bad")


def drive(script, jobs, *, max_retries=2, num_slots=2, executor=None, clock=None):
    executor, watcher, clock = executor or ScriptedExecutor(script, num_slots), Recorder(), clock or Clock()
    policy = RetryPolicy(max_retries=max_retries)
    failures = run_jobs(jobs, executor, policy, watcher, network_digest="d", clock=clock, sleep=clock.sleep)
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


def test_a_cohort_that_takes_its_workers_down_is_split_and_each_task_tried_as_often():
    script = {(0, 1): [LOST] * 9, (1, 1): [LOST] * 9}
    executor, _, _, failures = drive(script, [Job(first=0, last=1)], max_retries=1)
    assert executor.submitted == [(0, 1), (0, 1), (0, 0), (1, 1), (1, 1)]
    assert [(failure.job.first, failure.num_attempts) for failure in failures] == [(1, 2)]


def test_a_worker_with_another_network_is_refused_and_its_result_too():
    @dataclass
    class Foreign(ScriptedExecutor):
        """Its first result comes from another base network."""

        dismissed: int = 0

        def collect(self, timeout_s):
            digest = "other" if not self.dismissed else "d"
            found = super().collect(timeout_s)
            return [replace(o, result=replace(o.result, network_digest=digest)) for o in found]

        def dismiss(self, worker):
            self.dismissed += 1

    executor, watcher, _, failures = drive({}, [Job(first=0, last=3)], executor=Foreign())
    assert failures == ()
    assert executor.dismissed == 1
    assert [event[0] for event in watcher.events] == ["retried", "done"]


def test_workers_that_all_have_another_network_end_the_run():
    with pytest.raises(ForeignWorkerError, match="elsewhere"):
        drive({(0, 0): [ForeignWorkerError("elsewhere")] * 9}, [Job(first=0, last=0)])


def test_that_there_is_no_worker_is_said_again_and_again_and_work_goes_on_when_one_comes():
    clock = Clock()

    @dataclass
    class Empty(ScriptedExecutor):
        asked: int = 0

        @property
        def num_slots(self):
            return 0 if self.asked * POLL_S < 2.5 * WAITING_NOTICE_S else 2

        @num_slots.setter
        def num_slots(self, value):
            pass

        def collect(self, timeout_s):
            self.asked += 1
            clock.sleep(timeout_s)
            return super().collect(timeout_s)

    _, watcher, _, failures = drive({}, [Job(first=0, last=0)], executor=Empty(), clock=clock)
    assert failures == ()
    waits = [event for event in watcher.events if event[0] == "waiting"]
    assert [event[2] for event in waits] == [120.0, 240.0]
    assert waits[0][1] == "2 workers ask for 1 GPU"
    assert watcher.events[-1] == ("done", 0, 0)


def test_workers_that_leave_while_jobs_are_out_get_no_more_until_there_are_slots_again():
    @dataclass
    class Shrinking(ScriptedExecutor):
        """Loses two of its three workers once three jobs are out; gets one back when a single job is out."""

        def submit(self, job, *, avoid=None):
            assert len(self._out) < self.num_slots
            super().submit(job, avoid=avoid)
            if len(self._out) == 3:
                self.num_slots = 1

        def collect(self, timeout_s):
            found = super().collect(timeout_s)
            if len(self._out) == 1:
                self.num_slots = 2
            return found

    executor, watcher, _, failures = drive(
        {}, [Job(first=i, last=i) for i in range(7)], executor=Shrinking(num_slots=3)
    )
    assert failures == ()
    assert executor.submitted == [(i, i) for i in range(7)]
    assert len(watcher.events) == 7


def test_an_interrupt_passes_through():
    class Interrupting(ScriptedExecutor):
        def collect(self, timeout_s):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive({}, [Job(first=0, last=0)], executor=Interrupting())


def test_the_watcher_is_told_of_steps_and_of_workers():
    class Reporting(ScriptedExecutor):
        def collect(self, timeout_s):
            for job in self._out:
                self.on_steps(job, StepsDone(1, 4))
            return super().collect(timeout_s)

    class Counting(Recorder):
        def workers(self, num_busy, num_ready):
            self.events.append(("workers", num_busy, num_ready))

    watcher = Counting()
    run_jobs([Job(first=5, last=5)], Reporting(), RetryPolicy(max_retries=0), watcher, network_digest="d")
    assert watcher.events == [("workers", 1, 2), ("steps", 5, 1, 4), ("done", 5, 5)]
