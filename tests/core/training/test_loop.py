"""Training cut off anywhere and gone on from a save ends with the same bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import MaskSpec, NetworkSpec
from core.specs.training import OptimizerSpec, ScheduleSpec, TrainingSpec
from core.training.cohort import train_cohort
from core.training.engine import make_step
from core.training.loop import Chunks, NoCheckpoints
from core.training.modules import _train_together, train_modules
from tests.conftest import tiny_spec

CPU = torch.device("cpu")
DATASET = load_dataset("synthetic")
CONV = {
    "benchmark": BenchmarkSpec(kind="split", dataset="synthetic", num_tasks=2, labels="local"),
    "network": NetworkSpec(kind="conv4", outputs=3),
    "mask": MaskSpec(rule="top_k", density=0.2),
    "training": TrainingSpec(
        epochs=1,
        batch_size=32,
        optimizer=OptimizerSpec(kind="adam", lr=1e-2),
        schedule=ScheduleSpec(warmup=0),
    ),
}


class CutError(Exception):
    """The process ends here."""


class Memory:
    """Keeps each save; ends training after ``num_saves`` of them."""

    def __init__(self, every, num_saves=None, stored=None):
        self.every, self.num_saves, self.stored = every, num_saves, stored
        self.num_asked = self.num_kept = 0
        self.steps = []

    def load(self):
        return self.stored

    def is_due(self):
        self.num_asked += 1
        return self.num_asked % self.every == 0

    def on_step(self, num_done, num_steps):
        self.steps.append((num_done, num_steps))

    def save(self, arrays):
        self.stored = {key: np.array(value) for key, value in arrays.items()}
        self.num_kept += 1
        if self.num_kept == self.num_saves:
            raise CutError


def train_perceptrons(checkpointer, engine="eager", **changes):
    spec = tiny_spec(**changes)
    step = make_step(spec.training, engine, spec.mask)
    return train_cohort(Problem(spec, DATASET), [0, 1, 2], step=step, checkpointer=checkpointer)


def train_conv(checkpointer):
    return train_modules(Problem(tiny_spec(**CONV), DATASET), [0, 1], checkpointer=checkpointer)


def bits(result):
    layers = [layer.tobytes() for layer in result.masks]
    statistics = b"" if result.statistics is None else result.statistics.tobytes()
    return layers, statistics, result.train_loss.tobytes()


ADAM = TrainingSpec(steps=40, batch_size=16, optimizer=OptimizerSpec(kind="adam", lr=1e-2))
NARROW = TrainingSpec(
    steps=40, batch_size=16, optimizer=OptimizerSpec(kind="rmsprop", lr=1e-2, state="bfloat16")
)
WAYS = {
    "eager": train_perceptrons,
    "fused": lambda checkpointer: train_perceptrons(checkpointer, "fused"),
    "adam": lambda checkpointer: train_perceptrons(checkpointer, "fused", training=ADAM),
    "bfloat16": lambda checkpointer: train_perceptrons(checkpointer, training=NARROW),
    "top_k": lambda checkpointer: train_perceptrons(checkpointer, mask=MaskSpec(rule="top_k", density=0.3)),
    "conv4": train_conv,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("num_saves", [1, 3])
def test_going_on_from_a_save_ends_with_the_same_bits(way, num_saves):
    every = 2 if way == "conv4" else 11
    whole = bits(WAYS[way](None))
    memory = Memory(every, num_saves)
    with pytest.raises(CutError):
        WAYS[way](memory)
    gone_on = Memory(10**9, stored=memory.stored)
    assert bits(WAYS[way](gone_on)) == whole
    assert gone_on.num_asked > 0  # it trained what was left


def test_a_save_holds_plain_arrays_alone():
    memory = Memory(5, 1)
    with pytest.raises(CutError):
        train_conv(memory)
    assert all(value.dtype.kind in "iuf" for value in memory.stored.values())
    assert {"part", "now/score0", "now/buffer0", "now/statistics0", "now/course.step"} <= memory.stored.keys()


def test_a_cohort_trained_at_once_as_on_a_gpu_gives_nearly_the_same_masks():
    """By ``vmap``; products round otherwise, so a few bits of ten thousands may differ."""
    alone = train_conv(None)

    class OneLength(Problem):
        def view(self, task):
            view = super().view(task)
            return replace(view, train_rows=view.train_rows[:224])

    problem = OneLength(tiny_spec(**CONV), DATASET)
    together = _train_together(problem, [0, 1], Chunks(NoCheckpoints()), None)
    single = [_train_together(problem, [k], Chunks(NoCheckpoints()), None) for k in (0, 1)]
    differ = total = 0
    for layer in range(len(alone.masks)):
        one_by_one = np.concatenate([part[f"mask{layer}"] for part in single])
        assert together[f"mask{layer}"].shape == alone.masks[layer].shape
        assert together[f"mask{layer}"].sum() == one_by_one.sum()
        differ += int((together[f"mask{layer}"] != one_by_one).sum())
        total += one_by_one.size
    assert differ < 1e-3 * total
    np.testing.assert_allclose(together["loss"], [part["loss"][0] for part in single], rtol=1e-3)


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_steps_are_counted_over_the_whole_cohort_and_go_on_after_a_resume(engine):
    whole, cut = Memory(10**9), Memory(11, 1)
    train_perceptrons(whole, engine)
    num_steps = tiny_spec().training.num_steps
    total = num_steps * (3 if engine == "fused" else 1)  # tasks one after another, or at once
    assert {one[1] for one in whole.steps} == {total}
    done = [one[0] for one in whole.steps]
    assert (done[0], done[-1], done) == (0, total, sorted(done))
    with pytest.raises(CutError):
        train_perceptrons(cut, engine)
    gone_on = Memory(10**9, stored=cut.stored)
    train_perceptrons(gone_on, engine)
    assert gone_on.steps[0] == (11, total)
