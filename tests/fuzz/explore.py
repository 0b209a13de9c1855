"""Examples of a property until its time is over; none may hang or take memory without end.

``SUPSUP_FUZZ_S`` is the time of each property in seconds.
"""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("SUPSUP_FUZZ_S", "5"))
HANG_TICKS = 60  # seconds in which this process was awake
MORE_BYTES = 3 * 2**30  # that an example may map beside what is mapped already
FIRST_BATCH, MAX_BATCH = 10, 1000
PHASES = (Phase.reuse, Phase.generate, Phase.shrink)
Case = TypeVar("Case")


class HangError(BaseException):
    """An example does not end. No ``Exception``, which the code under test could take for one of its own."""


def explore(holds: Callable[[Case], None], cases: st.SearchStrategy[Case]) -> None:
    """Check that a property holds for examples of ``cases``, for ``SECONDS``, and print how many they were."""
    num, start_s, batch = 0, time.monotonic(), FIRST_BATCH

    def check(case: Case) -> None:
        nonlocal num
        num += 1
        with no_hang(), bounded_memory():
            holds(case)

    check.__name__ = holds.__name__  # under which failing examples are kept
    while (spent_s := time.monotonic() - start_s) < SECONDS:
        if num:
            batch = max(FIRST_BATCH, min(MAX_BATCH, int(num / spent_s * (SECONDS - spent_s))))
        _settings(batch)(given(cases)(check))()
    print(f"\n{holds.__name__}: {num:,} examples in {spent_s:.0f} s")  # noqa: T201  # seen with -s


def _settings(num: int) -> settings:
    checks = list(HealthCheck)
    return settings(max_examples=num, deadline=None, phases=PHASES, suppress_health_check=checks)


@contextmanager
def no_hang() -> Iterator[None]:
    """Raise HangError after ``HANG_TICKS``; a machine that sleeps meanwhile gives one tick."""
    left = HANG_TICKS

    def tick(*_: object) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise HangError(f"not done in {HANG_TICKS} s")

    before = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Have every allocation fail that would take ``MORE_BYTES`` beside what this process maps already."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MORE_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
