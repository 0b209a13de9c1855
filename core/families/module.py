"""Networks that are a ``torch.nn.Module``: built-in convolutional ones, and the user's own."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.networks.base import Layer
from core.specs.run import RunSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from core.batches.problem import Problem
    from core.inference.modules import ModuleSearchModel
    from core.networks.module import ModuleNetwork
    from core.training.chunks import CohortMasks, CohortResult
    from core.training.cohort import TrainingContext


class Module:
    """See ``core.families.Network``."""

    def peak_bytes(self, spec: RunSpec, layers: Sequence[Layer], num_tasks: int) -> int:
        """Return an estimate: per weight as for a perceptron, plus 256 float32 per input value.

        What autograd keeps per image depends on the module; this covers the built-in networks.
        """
        weights = sum(layer.num_weights for layer in layers)
        values = math.prod(spec.benchmark.channels_first) * spec.training.batch_size
        return num_tasks * (weights * (32 + spec.training.optimizer.state_bytes) + 4 * 256 * values)

    def train(self, problem: "Problem", tasks: Sequence[int], context: "TrainingContext") -> "CohortResult":
        """See ``core.families.Network``; autograd is the only engine."""
        from core.training.modules import train_modules

        return train_modules(
            problem,
            tasks,
            checkpointer=context.checkpointer,
            earlier=context.earlier,
            tasks_at_once=context.tasks_at_once,
        )

    def correct(self, problem: "Problem", trained: "CohortMasks") -> "list[NDArray[np.bool_]]":
        """See ``core.families.Network``."""
        from core.masks.bits import pack
        from core.training.precision import gpu_products

        model, found = _model(problem.module, problem.spec, problem.base, trained.statistics), []
        for k, task in enumerate(trained.tasks):
            view, packed_P = problem.view(task), pack([layer[k] for layer in trained.masks])
            with gpu_products(problem.spec.training.matmul):
                found.append(model.correct(view, problem.test, view.test_rows, packed_P, k))
        return found

    def search_model(
        self, spec: RunSpec, base: "Sequence[Tensor]", statistics: "NDArray[np.float32] | None"
    ) -> "ModuleSearchModel":
        """See ``core.families.Network``."""
        from core.networks.module import make_network

        network = make_network(spec.network, spec.benchmark.channels_first, base[0].device)
        return _model(network, spec, base, statistics)


def _model(
    network: "ModuleNetwork",
    spec: RunSpec,
    base: "Sequence[Tensor]",
    statistics: "NDArray[np.float32] | None",
) -> "ModuleSearchModel":
    import torch

    from core.inference.modules import ModuleSearchModel

    assert statistics is not None, "each task of a module has its own statistics"
    on_device = torch.from_numpy(statistics).to(base[0].device)
    return ModuleSearchModel(network, spec.benchmark, tuple(base), on_device)
