"""The best tasks of each inference, exactly, from bounds below their values.

Rough sums (``core.masks.packed_tables``) say of each task that its exact value is not below some floor. The
tasks that could be among the best are then compared exactly, the lowest floors first, until no floor is left
below the exact values that make the answer. The answer is that of comparing all tasks exactly, bit for bit,
because its values come from the same exact function and no other task can be in it.

The floors. A sum formed in floating point differs from the true sum of the same terms by at most gamma(n)
times the sum of their absolute values, for n roundings in any order, where gamma(n) = n u / (1 - n u) and u is
2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1). Numbers too small for
float32's exponents may each be lost; they add far less than anything that matters here.

Letters: B inferences, K tasks.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.masks.packed_tables import RoughSums

UNIT_ROUNDOFF = 2.0**-24
MOST_SHARE = 0.5  # of the tasks to compare exactly, before all are
# Takes positions among the K tasks, ascending; returns exact values, float64 [B, positions].
Exact = Callable[[NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class ExactBest:
    """The best of K tasks for B inferences, best first.

    positions: int64 [B, best], among the K tasks. values: float64 [B, best]. A row that ends early has -1 and
    infinity at its end. num_whole: inferences for which so many tasks were left that all were compared exactly.
    """

    positions: NDArray[np.int64]
    values: NDArray[np.float64]
    num_whole: int


def floors(
    rough: RoughSums, num_roundings: int, smallest: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return a lower bound of each exact value, float64 [L, masks].

    num_roundings: of float32, in which a term takes part in the exact sum. smallest: bounds what numbers
    too small for float32 add, [L].
    """
    share = num_roundings * UNIT_ROUNDOFF
    gamma = share / (1 - share) if share < 1 else np.inf
    lowest: NDArray[np.float64] = rough.sums - (rough.error + gamma * rough.mass + smallest)[:, None]
    return lowest


def best_first(
    floors_BK: NDArray[np.float64], exact: Exact, num_best: int, own: Collection[int] | None = None
) -> ExactBest:
    """Return the ``num_best`` lowest exact values; ties go to the lower position.

    own: positions; a row may end after the first of these and the first that is not. None: rows never end early.
    """
    values_BK, is_known = floors_BK.copy(), np.zeros(floors_BK.shape, dtype=bool)
    most, num_whole = MOST_SHARE * floors_BK.shape[1], 0
    while True:
        heads = [_head(*row, num_best, own) for row in zip(values_BK, is_known, strict=True)]
        missing = [head[~known[head]] for head, known in zip(heads, is_known, strict=True)]
        if not any(map(len, missing)):
            return _rows(heads, values_BK, num_best, num_whole)
        wanted = np.unique(np.concatenate(missing))
        # is_known is equal in all rows: a position is compared exactly for all inferences at once.
        if is_known[0].sum() + len(wanted) > most:
            wanted, num_whole = np.flatnonzero(~is_known[0]), sum(map(bool, map(len, missing)))
        values_BK[:, wanted] = exact(wanted)
        is_known[:, wanted] = True


def _head(
    values_K: NDArray[np.float64], is_known: NDArray[np.bool_], num_best: int, own: Collection[int] | None
) -> NDArray[np.int64]:
    """Return the positions of the lowest values, best first; at equal values those not yet exact come first."""
    edge = np.partition(values_K, num_best - 1)[num_best - 1]
    few = np.flatnonzero(values_K <= edge)
    head = few[np.lexsort((few, is_known[few], values_K[few]))][:num_best]
    if own is None:
        return head
    is_own = np.isin(head, np.fromiter(own, dtype=np.int64))
    if is_own.all() or not is_own.any():
        return head
    return head[: max(is_own.argmax(), (~is_own).argmax()) + 1]


def _rows(
    heads: list[NDArray[np.int64]], values_BK: NDArray[np.float64], num_best: int, num_whole: int
) -> ExactBest:
    positions = np.full((len(heads), num_best), -1, dtype=np.int64)
    values = np.full((len(heads), num_best), np.inf)
    for row, head in enumerate(heads):
        positions[row, : len(head)], values[row, : len(head)] = head, values_BK[row, head]
    return ExactBest(positions, values, num_whole)
