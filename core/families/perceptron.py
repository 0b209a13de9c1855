"""Multi-layer perceptrons with masks on their weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.networks.base import Layer
from core.specs.run import RunSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from core.batches.problem import Problem
    from core.inference.perceptron import PerceptronSearchModel
    from core.training.chunks import CohortMasks, CohortResult
    from core.training.cohort import TrainingContext


class Perceptron:
    """See ``core.families.Network``."""

    def peak_bytes(self, spec: RunSpec, layers: Sequence[Layer], num_tasks: int) -> int:
        """Return the bytes of K tasks, n weights, B images per batch, T steps and widths w, inputs included.

            K * (n * (32 + optimizer state) + 4 * B * 4 * sum(w) + 8 * T * B)

        These are float32 scores, effective weights, gradient and 20 bytes of temporaries per weight;
        activations, their gradients and two temporaries; the int32 order of images, twice while stacked.
        The ``fused`` engine needs less, as it trains one task at a time. The data set, shared by the workers
        of a node, is not included.
        """
        training = spec.training
        weights = sum(layer.num_weights for layer in layers)
        widths = layers[0].shape[1] + sum(layer.shape[0] for layer in layers)
        weight_bytes = 32 + training.optimizer.state_bytes
        order_bytes = 8 * training.num_steps * training.batch_size
        return num_tasks * (weights * weight_bytes + 16 * training.batch_size * widths + order_bytes)

    def train(self, problem: "Problem", tasks: Sequence[int], context: "TrainingContext") -> "CohortResult":
        """See ``core.families.Network``."""
        from core.training.cohort import train_cohort

        return train_cohort(
            problem,
            tasks,
            step=context.step,
            checkpointer=context.checkpointer,
            earlier=context.earlier,
            tasks_at_once=context.tasks_at_once,
        )

    def correct(self, problem: "Problem", trained: "CohortMasks") -> "list[NDArray[np.bool_]]":
        """See ``core.families.Network``."""
        from core.inference.evaluation import correct_images

        return correct_images(problem.views(trained.tasks), problem.test, problem.base, trained.masks)

    def search_model(
        self, spec: RunSpec, base: "Sequence[Tensor]", statistics: "NDArray[np.float32] | None"
    ) -> "PerceptronSearchModel":
        """See ``core.families.Network``."""
        from core.inference.perceptron import PerceptronSearchModel

        del spec, statistics
        return PerceptronSearchModel(tuple(base))
