"""Equal errors are said once, with their tasks; failed attempts are logged."""

import pytest

from core.errors import LostWorkerError, TrainingError
from orchestrator.execution.counts import Counts
from orchestrator.execution.jobs import Job
from orchestrator.runs.live import LiveFile
from orchestrator.tracking.tracker import Trackers
from orchestrator.watcher import RunWatcher, error_key, task_list
from storage.layout import RunLayout
from tests.orchestrator.fakes import Recorder, done


def lose_worker():
    raise LostWorkerError("worker-1 was lost: killed")


def make(tmp_path):
    display = Recorder()
    return RunWatcher(
        display, Trackers(), RunLayout(tmp_path), {}, LiveFile(RunLayout(tmp_path), "training", Counts())
    ), display


def test_equal_errors_are_one_message_with_their_tasks(tmp_path):
    watcher, display = make(tmp_path)
    for task in (3, 4, 5, 9):
        error = TrainingError(f"task {task}: the loss is not finite")
        watcher.job_failed(Job(first=task, last=task), "worker-0", error, 1)
    watcher.job_failed(Job(first=7, last=7), "worker-1", TrainingError("another"), 1)
    watcher.end()
    assert display.messages.splitlines() == [
        "train task 3 failed after 1 attempt: task 3: the loss is not finite",
        "train task 7 failed after 1 attempt: another",
        "3 more given up with the same error (tasks 4-5, 9): task N: the loss is not finite",
    ]


def test_each_failed_attempt_is_in_the_jobs_log_and_how_it_ended(tmp_path):
    watcher, _ = make(tmp_path)
    job, quiet = Job(first=2, last=3), Job(first=4, last=5)
    with pytest.raises(LostWorkerError) as caught:
        lose_worker()
    watcher.job_retried(job, "worker-1", caught.value, 0.5)
    watcher.job_done(job, done(job))
    watcher.job_done(quiet, done(quiet))
    (path,) = (tmp_path / "logs").iterdir()
    assert path.name == "train-00002-00003.log"
    text = path.read_text()
    assert "train tasks 2-3: failed on worker-1" in text
    assert "Traceback" in text
    assert text.rstrip().endswith("train tasks 2-3: done")


def test_what_tells_workers_and_tasks_apart_is_no_difference():
    assert error_key(LostWorkerError("worker-3 was lost")) == error_key(LostWorkerError("worker-11 was lost"))
    assert error_key(TrainingError("tasks 4-7: bad")) == error_key(TrainingError("tasks 8-11: bad"))
    assert error_key(TrainingError("size 4")) != error_key(TrainingError("size 5"))


def test_lists_of_tasks_are_short():
    assert task_list([Job(first=5, last=5)]) == "task 5"
    assert task_list([Job(first=0, last=3), Job(first=4, last=4), Job(first=9, last=9)]) == "tasks 0-4, 9"
    scattered = [Job(first=i, last=i) for i in range(0, 100, 2)]
    assert task_list(scattered).endswith("and 30 more")
