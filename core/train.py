"""Supermasks trained in this process and kept in memory: no run folder, no workers.

Letters: K tasks, P bytes of a packed mask, S running statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.batches.problem import Problem
from core.errors import ConfigError
from core.families import family_of
from core.masks.bits import pack, unpack
from core.training.choose_engine import without_compiler
from core.training.cohort import TrainingContext
from core.training.engine import make_step
from core.training.loop import NoCheckpoints


@dataclass(frozen=True, kw_only=True)
class TrainedMasks:
    """Masks of K tasks over one base network.

    packed: uint8 [K, P]. accuracy: float64 [K], fraction of test images that are right with the task given.
    train_loss: float32 [K], nats. statistics: float32 [K, S], if the network has batch normalisation.
    """

    problem: Problem
    tasks: tuple[int, ...]
    packed: NDArray[np.uint8]
    accuracy: NDArray[np.float64]
    train_loss: NDArray[np.float32]
    statistics: NDArray[np.float32] | None = None

    def by_layer(self, row: int) -> tuple[NDArray[np.bool_], ...]:
        """Return the mask in a row, bool [O, I, ...] per layer, True for weights that are kept."""
        return unpack(self.packed[row], [tuple(weight.shape) for weight in self.problem.base])


def train_masks(problem: Problem, tasks: Sequence[int]) -> TrainedMasks:
    """Train the masks of ``tasks`` and test them; the bits are those that a run of the same sweep stores.

    Raises ConfigError for a sweep whose masks depend on other tasks, TrainingError if a loss is not finite.
    """
    spec, tasks = problem.spec, [*tasks]
    _check(problem, tasks)
    can_fuse = spec.network.traits.family == "perceptron" and spec.mask.rule == "threshold"
    engine = without_compiler(spec.training, on_gpu=problem.device.type == "cuda") if can_fuse else "eager"
    step = make_step(spec.training, engine, spec.mask)
    family = family_of(spec.network)
    result = family.train(problem, tasks, TrainingContext(step, NoCheckpoints(), None))
    packed = [pack([layer[row] for layer in result.masks]) for row in range(len(tasks))]
    return TrainedMasks(
        problem=problem,
        tasks=tuple(tasks),
        packed=np.stack(packed),
        accuracy=np.array([one.mean() for one in family.correct(problem, result)]),
        train_loss=result.train_loss,
        statistics=result.statistics,
    )


def _check(problem: Problem, tasks: Sequence[int]) -> None:
    spec = problem.spec
    if spec.baseline is not None or not spec.training.is_given or spec.training.transfer != "none":
        raise ConfigError(
            "train_masks: found a baseline, a stream or transfer, whose tasks build on each other; expected a sweep "
            "of independent masks: `supsup.run` trains it"
        )
    num_tasks = spec.benchmark.num_tasks
    if not tasks or len(set(tasks)) < len(tasks) or not all(0 <= task < num_tasks for task in tasks):
        raise ConfigError(
            f"train_masks: found tasks {tasks}, expected different ones from 0 to {num_tasks - 1}"
        )
