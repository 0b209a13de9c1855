"""How long a background writer rests, so that it takes nothing from workers that fill the machine."""

import psutil

BUSY_SHARE = 0.05  # of the writer's time at work, while no processor is free
FREE_PROCESSORS = 0.5


class Pace:
    """Looks at how busy the processors were since it last looked."""

    def __init__(self) -> None:
        self._last = psutil.cpu_times()

    def rest_s(self, worked_s: float) -> float:
        """Return how long to rest after ``worked_s`` of work; nothing while a processor is free."""
        now, before = psutil.cpu_times(), self._last
        self._last = now
        whole_s = sum(now) - sum(before)
        if whole_s <= 0 or idle_processors(now.idle - before.idle, whole_s) > FREE_PROCESSORS:
            return 0.0
        return worked_s * (1 / BUSY_SHARE - 1)


def idle_processors(idle_s: float, whole_s: float) -> float:
    """Return how many processors were idle; idle_s, whole_s: summed over all of them."""
    return (psutil.cpu_count() or 1) * idle_s / whole_s
