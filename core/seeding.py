"""Named random streams: (seed, purpose, index) -> generator, without global state.

Hashing the purpose into the stream keeps different uses independent. This matters: if the
signs of the base network and the initial scores were drawn from one stream, the initial mask
would keep only the positive weights and accuracy would drop by several points.
"""

import hashlib
from typing import Literal

import numpy as np

Purpose = Literal[
    "weights",
    "scores",
    "order",
    "permutation",
    "synthetic",
    "visits",
    "capacity",
    "search",
    "classes",
    "validation",
    "augmentation",
    "baseline",
    "recovery",
    "deciding",
]


def stream(seed: int, purpose: Purpose, *index: int) -> np.random.Generator:
    """Return the generator for ``purpose`` under ``seed``, at ``index`` (usually a task).

    Equal arguments give equal draws in any process and in any order; different arguments
    give unrelated draws. The key is the first 128 bits of a SHA-256 over the arguments.
    """
    text = "/".join(["supsup", str(seed), purpose, *map(str, index)])
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))
