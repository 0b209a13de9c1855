"""One-shot task inference on BatchE's rank-one matrices, batch by batch, as with masks."""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from core.baselines.batch_ensemble import BatchEnsemble
from core.baselines.method import Setting, Values
from core.batches.images import classified, images_at_test
from core.data.benchmarks import task_view
from core.data.test_rows import InferredRows, blank_rows
from core.specs.run import InferenceSpec

NUM_BEST = 5


def infer_rank_one(
    setting: Setting,
    method: BatchEnsemble,
    values: Values,
    spec: InferenceSpec,
    *,
    task: int,
    num_tasks: int,
    num_batches: int | None,
) -> InferredRows:
    """Infer the task of the test images of ``task`` among the first ``num_tasks``; classify them."""
    view = task_view(setting.spec.benchmark, setting.dataset, task, seed=setting.spec.seed)
    rows = blank_rows(spec.images, len(view.test_rows), num_batches)
    inferred, ranks, correct = [], [], []
    for first, num in zip(rows.first_image.tolist(), rows.num_images.tolist(), strict=True):
        chosen = view.test_rows[first : first + num]
        x_NCHW = images_at_test(setting.spec.benchmark, view, setting.pixels[1], chosen)
        deciding = x_NCHW if spec.images == "each" else x_NCHW[: spec.images]
        gradient_K = method.alpha_gradient(values, range(num_tasks), deciding, spec.objective)
        order = np.argsort(gradient_K, kind="stable")
        place = int(np.flatnonzero(order == task)[0]) + 1
        inferred.append(int(order[0]))
        ranks.append(place if place <= NUM_BEST else 0)
        weights, statistics_S = method.weights(values, inferred[-1]), values[method.statistics(inferred[-1])]
        run = partial(setting.network.logits, weights=weights, statistics_S=statistics_S)
        is_right = classified(setting.spec.benchmark, view, setting.pixels[1], chosen, run)
        correct.append(int(is_right.sum()))
    return replace(
        rows,
        inferred_task=_int32(inferred),
        rank=_int32(ranks),
        num_correct=_int32(correct),
        exact_task=np.full(len(inferred), -1, dtype=np.int32),
    )


def _int32(values: list[int]) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)
