"""Metrics of continual learning from the accuracy matrix R[k, j]: accuracy on task j once the first k are learned.

Rows are the numbers of tasks k at which was measured, ascending, and the last one is the end, T tasks. Entries that
were not measured are NaN; those of tasks that are not learned yet count for forward transfer alone. With a row for
every k these are the published definitions; with fewer rows, R[i, i] is the first measurement of task i, which the
names of the results do not hide: ``num_compared`` tasks have one before the end.

Letters: K rows, T tasks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ContinualMetrics:
    """Fractions; NaN where nothing was measured that they need.

    average_accuracy (ACC): mean of R[T, j] (Lopez-Paz and Ranzato 2017, eq. 2).
    backward_transfer (BWT): mean of R[T, j] - R[j, j] over tasks before the last (eq. 3); negative is forgetting.
    forgetting: mean of the best earlier accuracy minus R[T, j] (Chaudhry et al. 2018, section 3.2); at least the
        negative of BWT.
    learning_accuracy: mean of R[j, j] (Riemer et al. 2019).
    forward_transfer (FWT): mean of R[j - 1, j] - b[j] over tasks after the first (eq. 4); needs accuracies on tasks
        that are not learned yet, which single masks do not have.
    num_compared: of how many tasks BWT and forgetting are the mean.
    """

    average_accuracy: float
    backward_transfer: float
    forgetting: float
    learning_accuracy: float
    forward_transfer: float
    num_compared: int


def continual_metrics(
    r_KT: NDArray[np.float64], ks: tuple[int, ...], untrained_T: NDArray[np.float64] | None = None
) -> ContinualMetrics:
    """Return the metrics of a matrix. ks: tasks learned, by row. untrained_T: b, accuracies before any learning.

    Raises ValueError for rows that do not ascend, or do not fit the matrix.
    """
    if not ks or r_KT.shape[0] != len(ks) or r_KT.shape[1] != ks[-1] or sorted(set(ks)) != list(ks):
        raise ValueError(
            f"found rows {ks} of a matrix {r_KT.shape}, expected ascending k and a column per task"
        )
    end_T, learned_KT = r_KT[-1], np.where(np.arange(len(r_KT[0])) < np.array(ks)[:, None], r_KT, np.nan)
    first_T = np.array([_of_measured(_first, column_K) for column_K in learned_KT.T])
    earlier_T = np.array([_of_measured(np.max, column_K) for column_K in learned_KT[:-1].T])
    first_T_before = np.where(np.isnan(earlier_T), np.nan, first_T)
    return ContinualMetrics(
        average_accuracy=_mean(end_T),
        backward_transfer=_mean(end_T - first_T_before),
        forgetting=_mean(earlier_T - end_T),
        learning_accuracy=_mean(first_T),
        forward_transfer=float("nan") if untrained_T is None else _mean(_ahead(r_KT, ks) - untrained_T),
        num_compared=int(np.count_nonzero(~np.isnan(end_T - earlier_T))),
    )


def _ahead(r_KT: NDArray[np.float64], ks: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the accuracy on each task when all before it are learned, and it is not, float64 [T]."""
    rows = dict(zip(ks, r_KT, strict=True))
    return np.array([rows[task][task] if task in rows else np.nan for task in range(r_KT.shape[1])])


def _of_measured(pick: Callable[[NDArray[np.float64]], float], values: NDArray[np.float64]) -> float:
    """Return what ``pick`` makes of the values that were measured, NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(pick(known)) if len(known) else float("nan")


def _first(values: NDArray[np.float64]) -> float:
    return float(values[0])


_mean = partial(_of_measured, np.mean)


def wilson(share: float, num: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of ``num`` independent trials, fractions."""
    z = 1.959964
    centre, width = (
        share + z * z / (2 * num),
        z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num)),
    )
    scale = 1 + z * z / num
    return max(0.0, (centre - width) / scale), min(1.0, (centre + width) / scale)
