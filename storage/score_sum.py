"""The sum of the scores of the tasks so far, ``transfer/scores-00004-<digest>.npz``, for transfer of scores.

Written before the mask file of the last of those tasks, so that what a later task starts from is
there whenever it may start. The sum before it is kept until then: a crash between the two loses nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import RunFolderError
from storage.arrays_file import pack_arrays, read_arrays
from storage.files import commit_bytes
from storage.layout import RunLayout
from storage.locations import listed

Layers = Sequence[NDArray[np.float64]]


def write_score_sum(layout: RunLayout, num_tasks: int, sums: Layers, fingerprint: str) -> None:
    """Commit the sum of the scores of the first ``num_tasks`` tasks, float64 a layer."""
    arrays = {f"sum{layer}": values for layer, values in enumerate(sums)}
    content, digest = pack_arrays(arrays, {"fingerprint": fingerprint, "num_tasks": num_tasks})
    commit_bytes(layout.score_sum(num_tasks, digest), content)
    kept = {
        p
        for num in (num_tasks - 1, num_tasks)
        for p in listed(layout.transfer, layout.score_sum(num, "*").name)
    }
    for path in listed(layout.transfer):
        if path not in kept:
            path.unlink(missing_ok=True)


def read_score_sum(layout: RunLayout, num_tasks: int, fingerprint: str) -> list[NDArray[np.float64]]:
    """Return the sum of the first ``num_tasks`` tasks. Raises RunFolderError where it is not there."""
    header = {"fingerprint": fingerprint, "num_tasks": num_tasks}
    for path in listed(layout.transfer, layout.score_sum(num_tasks, "*").name):
        arrays = read_arrays(path, header)
        return [arrays[f"sum{layer}"] for layer in range(len(arrays))]
    raise RunFolderError(
        f"{layout.transfer} has no sum of the scores of the first {num_tasks} tasks, which task {num_tasks} "
        "starts from; scores are kept for the next task only, so start a new run, or use transfer: masks"
    )
