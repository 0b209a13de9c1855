"""Families of base networks, one per file: everything that depends on the kind of network.

A new family is a kind in ``core.specs.network`` with its traits, a file here, and a line in ``FAMILIES``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from core.families.module import Module
from core.families.outputs import OutputMasked
from core.families.perceptron import Perceptron
from core.networks.base import Layer
from core.specs.network import NetworkSpec
from core.specs.run import RunSpec

if TYPE_CHECKING:  # no torch at import: the controller sizes cohorts without it
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from core.batches.problem import Problem
    from core.inference.search import SearchModel
    from core.training.chunks import CohortMasks, CohortResult
    from core.training.cohort import TrainingContext


class Network(Protocol):
    """Training, testing and task inference of one family of networks."""

    def peak_bytes(self, spec: RunSpec, layers: Sequence[Layer], num_tasks: int) -> int:
        """Return the peak bytes that training ``num_tasks`` tasks together adds to a worker."""
        ...

    def train(self, problem: "Problem", tasks: Sequence[int], context: "TrainingContext") -> "CohortResult":
        """Train the masks of ``tasks``. Raises TrainingError when a loss is not finite."""
        ...

    def correct(self, problem: "Problem", trained: "CohortMasks") -> "list[NDArray[np.bool_]]":
        """Return which test images of each task its own mask classifies correctly, bool [test images]."""
        ...

    def search_model(
        self, spec: RunSpec, base: "Sequence[Tensor]", statistics: "NDArray[np.float32] | None"
    ) -> "SearchModel":
        """Return the model for task inference. base: float32 [O, I, ...] per layer; statistics: of ``CohortMasks``."""
        ...


FAMILIES: dict[str, Network] = {
    "perceptron": Perceptron(),
    "module": Module(),
    "outputs": OutputMasked(),
}


def family_of(spec: NetworkSpec) -> Network:
    """Return the family of a network."""
    return FAMILIES[spec.traits.family]
