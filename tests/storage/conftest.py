"""A store of two small cohorts, made without torch."""

from pathlib import Path

import numpy as np
import pytest

from core.masks.bits import pack
from storage.layout import RunLayout
from storage.mask_store import MaskStore, StoreIdentity, TaskMask

SHAPES = ((5, 7), (3, 5))
IDENTITY = StoreIdentity(
    fingerprint="f" * 64,
    layers=(("fc1.weight", SHAPES[0]), ("fc2.weight", SHAPES[1])),
    network={"kind": "mlp", "seed": 1, "outputs": 3, "digest": "d" * 64},
)
PROVENANCE = {"engine": "eager", "device": "cpu", "torch": "2.13.0", "finished_s": 1.5}


def task_mask(task: int, shapes=SHAPES) -> TaskMask:
    draw = np.random.default_rng(task)
    bits = pack([draw.random(shape) < 0.5 for shape in shapes]).tobytes()
    return TaskMask(task=task, bits=bits, test_accuracy=0.9, train_loss=0.25, train_seconds=1.0)


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    store = MaskStore(RunLayout(tmp_path / "run"), IDENTITY)
    store.write_cohort([task_mask(t) for t in range(3)], PROVENANCE)
    store.write_cohort([task_mask(t) for t in range(3, 5)], PROVENANCE)
    return store
