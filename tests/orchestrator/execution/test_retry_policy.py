"""Every row of the table: what failed, how often, what follows."""

import pytest

from core.errors import ConfigError, DeviceMemoryError, ForeignWorkerError, LostWorkerError, TrainingError
from orchestrator.execution.jobs import Job
from orchestrator.execution.retry_policy import Decision, RetryPolicy

ONE, MANY, STREAM = Job(first=4, last=4), Job(first=0, last=3), Job(first=0, last=9, in_order=True)
POLICY = RetryPolicy(max_retries=2)


@pytest.mark.parametrize("error", [LostWorkerError("gone"), OSError("disk full"), ConnectionError("reset")])
def test_the_infrastructure_is_tried_again_with_growing_delays(error):
    assert POLICY.decide(MANY, error, 1) == Decision(action="retry", delay_s=0.5)
    assert POLICY.decide(MANY, error, 2) == Decision(action="retry", delay_s=1.0)
    assert POLICY.decide(MANY, error, 3) == Decision(action="split")
    assert POLICY.decide(ONE, error, 3) == Decision(action="give_up")
    assert POLICY.decide(STREAM, error, 3) == Decision(action="give_up")


@pytest.mark.parametrize(
    "error",
    [TrainingError("nan"), ConfigError("no"), ValueError("shape"), RuntimeError("CUDA out of memory")],
)
def test_a_tasks_own_error_is_not_repeated(error):
    assert POLICY.decide(MANY, error, 1) == Decision(action="split")
    assert POLICY.decide(ONE, error, 1) == Decision(action="give_up")
    assert POLICY.decide(STREAM, error, 1) == Decision(action="give_up")


def test_memory_too_small_for_one_task_is_not_tried_for_each_of_them():
    error = DeviceMemoryError("task 0 alone takes more memory than is free")
    assert POLICY.decide(MANY, error, 1) == Decision(action="retry", delay_s=0.5)
    assert POLICY.decide(MANY, error, 3) == Decision(action="give_up")


def test_a_foreign_worker_is_dismissed_and_too_many_of_them_end_the_run():
    error = ForeignWorkerError("other numpy")
    assert POLICY.decide(MANY, error, 1) == Decision(action="retry", delay_s=0.5, dismiss=True)
    assert POLICY.decide(MANY, error, 3) == Decision(action="stop", dismiss=True)


def test_delays_grow_and_stop_growing():
    policy = RetryPolicy(max_retries=20)
    delays = [policy.decide(ONE, LostWorkerError("gone"), attempt).delay_s for attempt in range(1, 12)]
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(delays) == 30.0
