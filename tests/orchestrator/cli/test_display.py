"""What a person sees while a run goes on."""

import io
import time

from rich.console import Console

from orchestrator.cli.common import consoles
from orchestrator.cli.display import LiveDisplay, PlainDisplay, Tally, make_display
from orchestrator.execution.jobs import Job, StepsDone
from orchestrator.report.text import duration
from tests.orchestrator.fakes import Clock, done


def test_durations_read_like_a_clock():
    assert [duration(s) for s in (0.4, 59.6, 61, 3599, 3600, 90_061)] == [
        "0:00", "1:00", "1:01", "59:59", "1:00:00", "25:01:01",
    ]  # fmt: skip


def test_tally_says_rate_time_left_and_accuracy(monkeypatch):
    monkeypatch.setattr("orchestrator.cli.display.time.monotonic", lambda: 30.0)
    tally = Tally(num_total=12, num_done=4, start_s=0.0)
    assert tally.words() == "0:30"
    job = Job(first=4, last=5)
    tally.add(job, done(job))
    assert tally.words() == "4.0 tasks/min  ETA 1:30  mean accuracy 50.00 %"


def test_a_pipe_gets_plain_lines_and_a_terminal_the_bar():
    pipe = io.StringIO()
    display = make_display(Console(file=pipe))
    assert isinstance(display, PlainDisplay)
    display.start("training", 4, 2)
    display.message("[not markup] said")
    job = Job(first=2, last=3)
    display.on_result(job, done(job))
    display.stop()
    lines = pipe.getvalue().splitlines()
    assert lines[:2] == ["training 2/4 tasks", "[not markup] said"]
    assert lines[2].startswith("training 4/4 tasks  ")
    assert "\x1b" not in pipe.getvalue()
    assert isinstance(make_display(Console(file=io.StringIO(), force_terminal=True)), LiveDisplay)


def test_the_live_bar_shows_the_same_words():
    screen = io.StringIO()
    display = LiveDisplay(Console(file=screen, force_terminal=True, width=140))
    display.start("training", 4, 0)
    job = Job(first=0, last=3)
    display.on_result(job, done(job))
    display.message("said")
    display.stop()
    assert "4/4" in screen.getvalue()
    assert "mean accuracy 50.00 %" in screen.getvalue()
    assert "said" in screen.getvalue()


def test_the_live_view_shows_who_works_what_ended_last_and_failures():
    screen = io.StringIO()
    display = LiveDisplay(Console(file=screen, force_terminal=True, width=100, height=24))
    display.start("training", 8, 0, num_jobs=4)
    display.workers(0, 0)
    display._live.refresh()
    assert "waiting for workers" in screen.getvalue()
    display.workers(2, 2)
    job = Job(first=0, last=1)
    display.on_result(job, done(job))
    display.failed(Job(first=2, last=3), for_good=False)
    display.failed(Job(first=4, last=5), for_good=True)
    display.stop()
    shown = screen.getvalue()
    assert "2 of 2 workers busy" in shown
    assert "finished last: task 1 50.00 %, task 0 50.00 %" in shown
    assert "2 failed  1 tried again" in shown


def test_the_pace_counts_from_the_first_worker_to_the_last_job(monkeypatch):
    """Workers came after 60 s; the last job ended 30 s later, and 10 s ago."""
    clock = Clock()
    monkeypatch.setattr("orchestrator.cli.display.time.monotonic", clock)
    tally = Tally(num_total=12)
    clock.sleep(60)
    tally.set_workers(1, 1)
    clock.sleep(30)
    tally.count(3)
    clock.sleep(10)
    assert tally.words() == "6.0 tasks/min  ETA 1:20"


def test_quiet_says_messages_only():
    pipe = io.StringIO()
    display = make_display(Console(file=pipe), quiet=True)
    display.start("training", 2, 0)
    job = Job(first=0, last=1)
    display.on_result(job, done(job))
    display.message("the disk is full")
    assert pipe.getvalue() == "the disk is full\n"


def test_plain_on_a_terminal_has_no_live_view_and_no_colour():
    _, progress = consoles(quiet=False, plain=True, as_json=False)
    assert progress.no_color
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(make_display(terminal, plain=True), PlainDisplay)


def test_steps_move_the_view_and_give_a_time_left_before_anything_is_done(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("orchestrator.cli.display.time.monotonic", clock)
    pipe = io.StringIO()
    display = PlainDisplay(Console(file=pipe))
    display.start("training", 24, 0, num_jobs=3)
    display.workers(2, 2)
    display.steps(Job(first=0, last=7), StepsDone(0, 1000))
    display.steps(Job(first=8, last=15), StepsDone(500, 1000))  # resumed: those steps say nothing of the pace
    clock.sleep(10)
    display.steps(Job(first=0, last=7), StepsDone(412, 1000))
    clock.sleep(1)
    display.steps(Job(first=0, last=7), StepsDone(450, 1000))  # too soon for another line
    lines = pipe.getvalue().splitlines()
    assert lines == [
        "training 0/24 tasks",
        "training 0/24 tasks, step 912 of 2,000  19.8 tasks/min  ETA 0:51",
    ]
    display.on_result(Job(first=0, last=7), done(Job(first=0, last=7)))
    clock.sleep(5)
    display.steps(Job(first=8, last=15), StepsDone(1000, 1000))
    assert "training 8/24 tasks, step 1,000 of 1,000" in pipe.getvalue()


def test_steps_of_a_job_that_failed_are_not_counted_any_more(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("orchestrator.cli.display.time.monotonic", clock)
    tally, whole, part = Tally(num_total=4, num_jobs=1), Job(first=0, last=3), Job(first=0, last=0)
    tally.set_workers(1, 1)
    tally.set_steps(whole, StepsDone(0, 400))
    clock.sleep(10)
    tally.set_steps(whole, StepsDone(300, 400))
    tally.fail(whole, for_good=False)  # its tasks are tried again one by one
    tally.set_steps(part, StepsDone(10, 100))
    assert tally.steps() == ", step 10 of 100"
    tally.fail(part, for_good=True)
    assert tally.failures() == ["1 failed", "1 tried again"]


def test_what_takes_long_is_shown_with_its_time_and_what_is_quick_is_not(monkeypatch):
    monkeypatch.setattr("orchestrator.cli.display.SHORT_WAIT_S", 0.05)
    monkeypatch.setattr("orchestrator.cli.display.PLAIN_STEPS_S", 0.05)
    shown = PlainDisplay(console := Console(file=io.StringIO(), width=80))
    with shown.doing("starting Ray"):
        until_s = time.monotonic() + 10
        while console.file.getvalue().count("starting Ray  0:0") < 2 and time.monotonic() < until_s:
            time.sleep(0.02)
    assert console.file.getvalue().count("starting Ray  0:0") >= 2
    monkeypatch.setattr("orchestrator.cli.display.SHORT_WAIT_S", 5.0)
    quick = PlainDisplay(console := Console(file=io.StringIO(), width=80))
    with quick.doing("reading digits"):
        pass
    assert not console.file.getvalue()
