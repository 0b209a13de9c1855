"""Networks with masks on the outputs of hidden layers, recovered rather than searched (HopSupSup)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Never

from core.errors import InferenceError
from core.networks.base import Layer
from core.specs.run import RunSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from core.batches.problem import Problem
    from core.training.chunks import CohortMasks, CohortResult
    from core.training.cohort import TrainingContext


class OutputMasked:
    """See ``core.families.Network``."""

    def peak_bytes(self, spec: RunSpec, layers: Sequence[Layer], num_tasks: int) -> int:
        """Return the bytes of one task at a time: weights, and ten float32 per activation for autograd."""
        del num_tasks
        widths = layers[0].shape[1] + sum(layer.shape[0] for layer in layers)
        return 4 * sum(layer.num_weights for layer in layers) + 40 * spec.training.batch_size * widths

    def train(self, problem: "Problem", tasks: Sequence[int], context: "TrainingContext") -> "CohortResult":
        """See ``core.families.Network``."""
        from core.hopfield.network import train_outputs

        return train_outputs(problem, tasks, context.checkpointer)

    def correct(self, problem: "Problem", trained: "CohortMasks") -> "list[NDArray[np.bool_]]":
        """See ``core.families.Network``."""
        from core.hopfield.network import correct_outputs

        return correct_outputs(problem, trained.tasks, trained.masks)

    def search_model(
        self, spec: RunSpec, base: "Sequence[Tensor]", statistics: "NDArray[np.float32] | None"
    ) -> Never:
        """Raise InferenceError: single images cannot distinguish such masks."""
        del base, statistics
        raise InferenceError(
            f"found network {spec.network.kind!r} with masks on its outputs, expected masks on weights; such "
            "masks are recovered from many images, which is scenario GNs"
        )
