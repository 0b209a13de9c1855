"""What a person sees while a run goes on."""

import io

from rich.console import Console

from orchestrator.display import LiveDisplay, PlainDisplay, Tally, duration, make_display
from orchestrator.jobs import Job
from tests.orchestrator.fakes import done


def test_durations_read_like_a_clock():
    assert [duration(s) for s in (0.4, 59.6, 61, 3599, 3600, 90_061)] == [
        "0:00", "1:00", "1:01", "59:59", "1:00:00", "25:01:01",
    ]  # fmt: skip


def test_tally_says_rate_time_left_and_accuracy(monkeypatch):
    monkeypatch.setattr("orchestrator.display.time.monotonic", lambda: 30.0)
    tally = Tally(num_total=12, num_done=4, start_s=0.0)
    assert tally.words() == ""
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
    display.advance(job, done(job))
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
    display.advance(job, done(job))
    display.message("said")
    display.stop()
    assert "4/4" in screen.getvalue()
    assert "mean accuracy 50.00 %" in screen.getvalue()
    assert "said" in screen.getvalue()
