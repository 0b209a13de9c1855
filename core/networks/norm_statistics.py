"""Where the running statistics of each normalisation lie in a task's own, one after another."""

from collections.abc import Iterator, Sequence


def statistics_slices(norms: Sequence[tuple[str, int]]) -> Iterator[tuple[str, slice]]:
    """Yield (name of torch's buffer, its place) for each of (name, channels): means, then variances."""
    start = 0
    for name, channels in norms:
        for kind in ("running_mean", "running_var"):
            yield f"{name}.{kind}", slice(start, start + channels)
            start += channels
