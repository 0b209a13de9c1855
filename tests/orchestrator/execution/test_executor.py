"""One conformance suite for every executor, the real Ray included."""

import sys
import time
from functools import partial

import pytest

from core.errors import LostWorkerError, TrainingError
from orchestrator.cluster.local_ray import LocalExecutor, LocalRay
from orchestrator.execution.executor import InlineExecutor, never_stopping
from orchestrator.execution.jobs import Job, StepsDone
from tests.orchestrator.fakes import Misbehaving, Slow, Unbuildable, done

OPTIONS = {"num_workers": 2, "gpus_per_worker": 0, "threads_per_worker": 1, "address": None}


def make_inline(make_worker, shared):
    return InlineExecutor(make_worker, shared)


def make_ray(make_worker, shared, **changes):
    from orchestrator.cluster.executor import RayExecutor

    return RayExecutor(make_worker, shared, **(OPTIONS | changes))


def make_driven(local, make_worker, shared):
    """Make an executor on a Ray that a process of its own drives."""
    return LocalExecutor(local, make_worker, shared, owns=False, **OPTIONS)


@pytest.fixture(scope="module")
def driven_ray():
    """Start a Ray with a driver of its own, once; end it with these tests."""
    with LocalRay(num_cpus=2, num_threads=1) as local:
        yield local


RAY = [pytest.param(kind, marks=pytest.mark.ray) for kind in ("ray", "driven")]


@pytest.fixture(params=["inline", *RAY])
def make(request):
    if request.param == "inline":
        yield make_inline
        return
    found = request.getfixturevalue("local_ray" if request.param == "ray" else "driven_ray")
    maker, made = make_ray if found is None else partial(make_driven, found), []

    def remembering(make_worker, shared):
        made.append(maker(make_worker, shared))
        return made[-1]

    yield remembering
    for executor in made:
        executor.close()


def collect_all(executor, jobs):
    """Keep every slot filled and return each job's outcome."""
    waiting, attempts, num_out = list(jobs), {}, 0
    while waiting or num_out:
        while waiting and num_out < executor.num_slots:
            executor.submit(waiting.pop(0))
            num_out += 1
        for attempt in executor.collect(30.0):
            assert attempt.job.first not in attempts, "came back twice"
            attempts[attempt.job.first] = attempt
            num_out -= 1
    return attempts


def test_each_job_comes_back_exactly_once_with_its_own_result(make, tmp_path):
    jobs = [Job(first=i, last=i + 1) for i in range(10, 30, 2)]
    attempts = collect_all(make(Misbehaving, tmp_path), jobs)
    assert sorted(attempts) == list(range(10, 30, 2))
    for first, attempt in attempts.items():
        assert attempt.error is None
        assert [report.task for report in attempt.result.reports] == [first, first + 1]


def test_steps_that_a_running_job_reports_reach_the_caller_before_its_result(make, tmp_path):
    executor, seen = make(Slow, tmp_path), []
    while not executor.num_slots:
        executor.collect(5.0)
    executor.on_steps = lambda job, steps: seen.append((job.first, steps))
    executor.submit(Job(first=7, last=9))
    while not executor.collect(0.5):
        pass
    assert seen[-1] == (7, StepsDone(2, 4))
    seen.clear()
    executor.submit(Job(first=3, last=3, kind="other"))
    while not executor.collect(0.5):
        pass
    assert {first for first, _ in seen} == {3}  # never those of the job before


def test_a_workers_own_error_comes_back_as_it_is_and_the_executor_goes_on(make, tmp_path):
    executor = make(Misbehaving, tmp_path)
    attempts = collect_all(executor, [Job(first=i, last=i) for i in (0, 1, 2)])
    assert attempts[0].error is None
    assert type(attempts[1].error) is OSError
    assert type(attempts[2].error) is TrainingError
    assert str(attempts[2].error) == "the loss of task 2 is not finite"
    assert collect_all(executor, [Job(first=1, last=1)])[1].error is None


def test_a_worker_that_cannot_be_made_fails_its_job(make):
    executor = make(Unbuildable, None)
    attempts = collect_all(executor, [Job(first=0, last=0)])
    assert type(attempts[0].error) is ValueError
    assert "no such device" in str(attempts[0].error)


def test_a_job_without_an_executor_is_never_asked_to_stop():
    assert not never_stopping()


def test_collecting_nothing_returns_nothing(make, tmp_path):
    assert make(Misbehaving, tmp_path).collect(0.0) == []


def test_close_does_not_wait_and_may_be_called_twice(make, tmp_path):
    executor = make(Misbehaving, tmp_path)
    while not executor.num_slots:
        executor.collect(5.0)
    executor.submit(Job(first=50, last=50))
    executor.close()
    executor.close()


@pytest.mark.ray
def test_a_worker_that_dies_fails_its_job_and_is_replaced(local_ray, tmp_path):
    executor = make_ray(Misbehaving, tmp_path)
    attempt = collect_all(executor, [Job(first=3, last=3)])[3]
    assert type(attempt.error) is LostWorkerError
    assert attempt.worker in str(attempt.error)
    left, until_s = {3, 40, 41, 42}, time.monotonic() + 60
    while left and time.monotonic() < until_s:
        again = collect_all(executor, [Job(first=i, last=i) for i in sorted(left)])
        # While the actor starts again, its job is lost once more; the controller waits and retries.
        assert all(type(o.error) in (type(None), LostWorkerError) for o in again.values())
        left = {task for task, attempt in again.items() if attempt.error is not None}
    assert not left
    executor.close()


class Hanging:
    """A worker whose first job never ends."""

    def __init__(self, shared):
        self._folder = shared

    def run(self, job):
        if not (self._folder / "hung").exists():
            (self._folder / "hung").touch()
            time.sleep(3600)
        return done(job)


@pytest.mark.ray
def test_a_worker_that_hangs_is_ended_after_the_limit_and_replaced(local_ray, tmp_path):
    executor = make_ray(Hanging, tmp_path, num_workers=1, job_limit_s=1.0)
    job = Job(first=0, last=0)
    lost = collect_until_done(executor, job)
    assert type(lost.error) is LostWorkerError
    assert "took more than" in str(lost.error)
    assert collect_until_done(executor, job).error is None
    executor.close()


class Importer:
    """Says which modules its process had imported before its first job."""

    def __init__(self, folder):
        found = [name for name in ("colorsys", "orchestrator.worker.worker") if name in sys.modules]
        (folder / "imported").write_text(" ".join(found))

    def run(self, job):
        return done(job)


@pytest.mark.ray
def test_workers_import_ahead_and_do_not_mind_what_is_not_there(local_ray, tmp_path):
    executor = make_ray(Importer, tmp_path, num_workers=1, imports=("no.such.module", "colorsys"))
    assert collect_until_done(executor, Job(first=0, last=0)).error is None
    assert (tmp_path / "imported").read_text() == "colorsys"
    executor.close()


@pytest.mark.ray
def test_a_worker_that_is_dismissed_is_replaced_and_a_shortage_is_told(local_ray, tmp_path):
    executor = make_ray(Misbehaving, tmp_path)
    assert "workers require 1 CPU each; the cluster has" in executor.shortage()
    first = collect_until_done(executor, Job(first=10, last=10))
    executor.dismiss(first.worker)
    again = [collect_until_done(executor, Job(first=i, last=i)) for i in range(11, 15)]
    assert {attempt.error for attempt in again} == {None}
    assert first.worker not in {attempt.worker for attempt in again}
    executor.close()


def collect_until_done(executor, job):
    """Send one job as soon as there is a worker and return what it came to."""
    until_s = time.monotonic() + 60
    while not executor.num_slots and time.monotonic() < until_s:
        executor.collect(1.0)
    executor.submit(job)
    while time.monotonic() < until_s:
        for attempt in executor.collect(0.2):
            return attempt
    raise AssertionError("the job never came back")
