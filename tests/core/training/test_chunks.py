"""Cohorts of one shape, and cohorts that memory cannot hold: the bits of the masks stay the same."""

from dataclasses import replace

import pytest
import torch

from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.errors import DeviceMemoryError, TrainingError
from core.specs.training import TrainingSpec
from core.training import modules
from core.training.chunks import is_out_of_memory
from core.training.cohort import Step, eager_step, train_cohort
from core.training.engine import is_missing, make_step
from core.training.modules import train_modules
from core.training.optimizers import Optimizer
from tests.conftest import tiny_spec
from tests.core.training.test_loop import CONV, CutError, Memory, bits

DATASET = load_dataset("synthetic")


class Seen:
    """The reference step, for a number of tasks that it notes; memory ends above ``most`` of them."""

    def __init__(self, spec, *, most=10**9, one_shape=True):
        step = make_step(spec.training, "eager", spec.mask)
        self.sizes, self._run, self._most = [], step.run, most
        self.step = replace(step, run=self, has_one_shape=one_shape)

    def __call__(self, pixels, gather_KD, *others):
        if not self.sizes or self.sizes[-1] != len(gather_KD):
            self.sizes.append(len(gather_KD))
        if len(gather_KD) > self._most:
            raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")
        return self._run(pixels, gather_KD, *others)


def train(seen, tasks, **options):
    return train_cohort(Problem(tiny_spec(), DATASET), tasks, step=seen.step, **options)


def eager(tasks):
    spec = tiny_spec()
    return train_cohort(Problem(spec, DATASET), tasks, step=make_step(spec.training, "eager"))


@pytest.mark.parametrize("tasks", [[0, 1, 2], [5, 6], [0, 1, 2, 3]])
def test_a_smaller_cohort_is_filled_up_and_its_bits_stay_the_same(tasks):
    seen = Seen(tiny_spec())
    found = train(seen, tasks, tasks_at_once=4)
    assert seen.sizes == [4]
    assert bits(found) == bits(eager(tasks))
    assert found.tasks == tuple(tasks)
    assert (found.tasks_at_once, found.ran_out) == (4, False)


def test_a_task_alone_and_a_step_without_a_shape_are_not_filled_up():
    alone, free = Seen(tiny_spec()), Seen(tiny_spec(), one_shape=False)
    train(alone, [3], tasks_at_once=4)
    train(free, [3, 4], tasks_at_once=4)
    assert (alone.sizes, free.sizes) == ([1], [2])


def test_a_resumed_cohort_that_is_filled_up_ends_with_the_same_bits():
    memory, seen = Memory(11, 1), Seen(tiny_spec())
    with pytest.raises(CutError):
        train(seen, [0, 1, 2], tasks_at_once=4, checkpointer=memory)
    assert memory.stored["now/score0"].shape[0] == 4
    gone_on = Memory(10**9, stored=memory.stored)
    found = train(seen, [0, 1, 2], tasks_at_once=4, checkpointer=gone_on)
    assert bits(found) == bits(eager([0, 1, 2]))
    assert gone_on.steps[0] == (11, 60)


def test_a_loss_that_is_not_finite_in_what_fills_up_is_said_once():
    class Diverges(Seen):
        def __call__(self, *arguments):
            return super().__call__(*arguments) * float("nan")

    with pytest.raises(TrainingError, match=r"the loss of task 5, 6 is not finite"):
        train(Diverges(tiny_spec()), [5, 6], tasks_at_once=4)


@pytest.mark.parametrize("one_shape", [False, True])
def test_where_memory_ends_the_cohort_is_halved_and_its_bits_stay_the_same(one_shape):
    seen = Seen(tiny_spec(), most=3, one_shape=one_shape)
    found = train(seen, range(9), tasks_at_once=9)
    assert bits(found) == bits(eager(range(9)))
    assert (found.tasks_at_once, found.ran_out) == (3, True)
    assert seen.sizes == [9, 5, 3]  # and then chunks of three, none of them tried larger again


def test_memory_that_ends_late_keeps_the_chunks_that_are_done():
    class Shrinks(Seen):
        """Memory for four tasks at first, then for two."""

        def __call__(self, *arguments):
            self.num_steps = getattr(self, "num_steps", 0) + 1
            self._most = 4 if self.num_steps <= 60 else 2
            return super().__call__(*arguments)

    seen = Shrinks(tiny_spec())
    assert bits(train(seen, range(7), tasks_at_once=4)) == bits(eager(range(7)))
    assert seen.sizes == [4, 2, 1]


def test_a_stop_after_memory_ended_resumes_with_the_same_bits():
    memory, seen = Memory(130, 1), Seen(tiny_spec(), most=2)
    with pytest.raises(CutError):
        train(seen, range(5), tasks_at_once=5, checkpointer=memory)
    assert memory.stored["part"] == 2
    for tasks_at_once in (5, 2):  # whether or not the run remembers what fits
        gone_on = Memory(10**9, stored=memory.stored)
        again = Seen(tiny_spec(), most=2)
        found = train(again, range(5), tasks_at_once=tasks_at_once, checkpointer=gone_on)
        assert bits(found) == bits(eager(range(5)))
        assert again.sizes == [1]  # only what was left


def test_one_task_that_does_not_fit_is_said():
    with pytest.raises(DeviceMemoryError, match=r"task 2 alone .*Tried to allocate 2\.00 GiB.*batch_size"):
        train(Seen(tiny_spec(), most=0), [2, 3], tasks_at_once=2)


def test_errors_that_mean_the_end_of_memory():
    wrapped = RuntimeError("the backend failed")
    wrapped.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    for error in (
        wrapped,
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ):
        assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_modules_that_train_together_are_halved_too(monkeypatch):
    train_together, tried = modules._train_together, []

    def limited(problem, tasks, *others):
        tried.append(len(tasks))
        if len(tasks) > 1:
            raise torch.OutOfMemoryError
        return train_together(problem, tasks, *others)

    problem = Problem(tiny_spec(**CONV), DATASET)
    whole = train_modules(problem, [0, 1])
    monkeypatch.setattr(modules, "_trains_together", lambda *_: True)
    monkeypatch.setattr(modules, "_train_together", limited)
    found = train_modules(problem, [0, 1])
    assert tried == [2, 1, 1]
    assert bits(found) == bits(whole)


@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecations
def test_cohorts_of_ten_sizes_compile_for_one_shape():
    """Each size had code of its own, and the ninth was refused. Traced as ever, and run without a C++ compiler."""
    spec = tiny_spec(training=TrainingSpec(steps=2, batch_size=16))
    graphs, problem = [], Problem(spec, DATASET)

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    assert make_step(spec.training, "compiled").has_one_shape
    traced = torch.compile(
        eager_step(Optimizer(spec.training.optimizer)), backend=keep, dynamic=False, fullgraph=True
    )
    step = Step(traced, has_one_shape=True)
    for num_tasks in range(11, 1, -1):
        found = train_cohort(problem, range(num_tasks), step=step, tasks_at_once=11)
    assert len(graphs) == 1
    assert found.masks[0].shape[0] == 2


def test_a_step_that_is_compiled_too_often_is_no_fault_of_a_task():
    from torch._dynamo.exc import FailOnRecompileLimitHit

    assert is_missing(FailOnRecompileLimitHit("too many"))
