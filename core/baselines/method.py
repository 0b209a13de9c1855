"""Training and testing shared by all baselines.

A method computes a task's weights from values that it keeps (a trunk, heads, vectors), and names
those that a task trains. The network, a pure function of weights, is the one that supermasks use;
weights are initialised Kaiming normal. Each task has its own statistics of batch normalisation,
unless a method shares them.

Letters: N images, S running statistics.
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches.images import Batches, classified, train_batches
from core.batches.problem import Problem
from core.networks.base import fan_in
from core.seeding import stream
from core.training.cohort import image_order
from core.training.loop import Checkpointer, Chunks, NoCheckpoints, mean_loss, run_steps
from core.training.modules import lr_shares
from core.training.optimizers import Optimizer

Values = dict[str, Tensor]  # the state of a method, by name


class Method(Protocol):
    """A baseline that learns one task after another."""

    def begin(self, values: Values, task: int) -> None:
        """Add the values of ``task`` to ``values``, which is empty before task 0."""
        ...

    def trained(self, task: int) -> list[str]:
        """Return the names of the values that ``task`` trains."""
        ...

    def weights(self, values: Values, task: int, course: int | None = None) -> list[Tensor]:
        """Return the weights of ``task`` per layer. course: the task whose images it is being trained on."""
        ...

    def courses(self, task: int) -> list[int]:
        """Return the tasks whose images ``task`` is trained on, a batch of each in turn."""
        ...

    def statistics(self, task: int) -> str:
        """Return the name of the running statistics that ``task`` uses."""
        ...

    def lr(self, task: int) -> float | None:
        """Return the learning rate of ``task``, None for the optimizer's."""
        ...


class Plain:
    """Defaults: a task's own images and statistics, and the optimizer's learning rate."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def courses(self, task: int) -> list[int]:
        """See ``Method``."""
        return [task]

    def statistics(self, task: int) -> str:
        """See ``Method``."""
        return f"statistics{task}"

    def lr(self, task: int) -> float | None:
        """See ``Method``; the first task may have its own."""
        baseline = self.problem.spec.baseline
        return baseline.first_lr if baseline is not None and task == 0 else None

    def new_weights(self, layers: Sequence[int], *index: int) -> list[Tensor]:
        """Draw Kaiming normal weights of ``layers``, each from its own random stream."""
        found = []
        for layer in layers:
            shape = self.problem.module.shapes[layer]
            draw = stream(self.problem.spec.seed, "baseline", *index, layer)
            drawn = draw.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in(shape)))
            found.append(torch.from_numpy(drawn).to(self.problem.device))
        return found

    @property
    def num_layers(self) -> int:
        """Number of layers with weights, the head included."""
        return len(self.problem.module.shapes)


def learn_task(
    problem: Problem, method: Method, values: Values, task: int, checkpointer: Checkpointer | None = None
) -> float:
    """Train ``task``, updating ``values`` in place; return its mean loss (nats). Raises TrainingError."""
    method.begin(values, task)
    network, optimizer = problem.module, Optimizer(problem.spec.training.optimizer)
    courses = [_Course(problem, one) for one in method.courses(task)]
    names = method.trained(task)
    buffers = {name: optimizer.buffers(values[name]) for name in names}
    number = torch.zeros((), dtype=torch.float64, device=problem.device)
    statistics_S = values.setdefault(method.statistics(task), network.start_statistics(problem.device))
    base_lr = problem.spec.training.optimizer.lr or 1.0
    # Courses may differ in length: the others go on when one is over.
    turns = [
        (t, course)
        for t in range(max(c.num_steps for c in courses))
        for course in courses
        if t < course.num_steps
    ]

    def step(turn: int) -> Tensor:
        t, course = turns[turn]
        x_BCHW, labels_B = course.batch(t)
        leaves = {name: values[name].detach().requires_grad_() for name in names}
        logits_BO = network.train_logits(
            x_BCHW, method.weights(values | leaves, task, course.task), statistics_S
        )
        loss = torch.nn.functional.cross_entropy(logits_BO, labels_B)
        used = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        number.add_(1)
        lr_share = course.shares[t] * (method.lr(task) or base_lr) / base_lr
        for name, grad in zip(names, used, strict=True):
            if grad is not None:  # None for the head of another task
                optimizer.update(values[name], grad.clone(), buffers[name], number, lr_share)
        return loss.detach().reshape(1)

    state = {
        "value": [values[name] for name in names],
        "buffer": [buffer for name in names for buffer in buffers[name]],
        "statistics": [statistics_S],
        "step": [number],
    }
    chunks = Chunks.resume(checkpointer or NoCheckpoints())
    return float(mean_loss([task], run_steps(step, len(turns), state, chunks))[0])


def correct_images(problem: Problem, method: Method, values: Values, task: int) -> NDArray[np.bool_]:
    """Return which test images of ``task`` are classified correctly with the task given, bool [N]."""
    view = problem.view(task)
    weights, statistics_S = method.weights(values, task), values[method.statistics(task)]
    run = partial(problem.module.logits, weights=weights, statistics_S=statistics_S)
    return classified(problem.spec.benchmark, view, problem.test, view.test_rows, run)


class _Course:
    """The batches of one task."""

    def __init__(self, problem: Problem, task: int) -> None:
        spec, view = problem.spec, problem.view(task)
        self.task, self.shares = task, lr_shares(spec.training, view)
        order = image_order(spec, task, view, self.num_steps * spec.training.batch_size)
        self._batches: Batches = train_batches(problem, [task], order[None])

    @property
    def num_steps(self) -> int:
        """Number of batches."""
        return len(self.shares)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images [B, C, H, W] and labels [B]."""
        x_KBCHW, labels_KB = self._batches(step)
        return x_KBCHW[0], labels_KB[0]
