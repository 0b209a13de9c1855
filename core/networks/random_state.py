"""The random numbers that are global to a process: of torch, numpy and Python."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def random_state() -> tuple[bytes, str, int]:
    """Return the states of the global generators of torch, numpy and Python."""
    # NPY002: the user's code may use the old generator.
    _, key, *more = np.random.get_state(legacy=True)  # noqa: NPY002
    return (
        bytes(torch.get_rng_state().numpy()),
        f"{hash(np.asarray(key).tobytes())} {more}",
        hash(random.getstate()),
    )


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Leave them as they were."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
