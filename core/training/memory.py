"""Peak memory of training a cohort, computed before it starts."""

import math
from collections.abc import Sequence

from core.networks.base import Layer
from core.specs.run import RunSpec
from core.specs.training import TrainingSpec


def cohort_peak_bytes(
    layers: Sequence[Layer], training: TrainingSpec, num_tasks: int, *, masks_outputs: bool = False
) -> int:
    """Return the bytes that training ``num_tasks`` tasks adds to a worker at its peak.

    With K tasks, n weights, B images per batch, T steps and layer widths w, inputs included:

        K * (n * (32 + optimizer state) + 4 * B * 4 * sum(w) + 8 * T * B)

    These are float32 scores, effective weights, gradient and 20 bytes of temporaries per weight;
    activations, their gradients and two temporaries; the int32 order of images, twice while stacked.
    The ``fused`` engine needs less, as it trains one task at a time. The data set is shared by the
    workers of a node and counted separately. Masks on outputs (``masks_outputs``) also train one at a
    time: the weights, and activations as autograd keeps them, ten float32 each.
    """
    weights = sum(layer.num_weights for layer in layers)
    widths = layers[0].shape[1] + sum(layer.shape[0] for layer in layers)
    if masks_outputs:
        return 4 * weights + 40 * training.batch_size * widths
    weight_bytes = 32 + training.optimizer.state_bytes
    order_bytes = 8 * training.num_steps * training.batch_size
    return num_tasks * (weights * weight_bytes + 16 * training.batch_size * widths + order_bytes)


def module_peak_bytes(spec: RunSpec, layers: Sequence[Layer], num_tasks: int) -> int:
    """Return roughly the bytes that training ``num_tasks`` tasks of a module adds to a worker.

    As in ``cohort_peak_bytes`` per weight. What autograd keeps per image depends on the module and is not
    known in advance; 256 float32 per input value covers the built-in networks.
    """
    weights = sum(layer.num_weights for layer in layers)
    values = math.prod(spec.benchmark.channels_first) * spec.training.batch_size
    return num_tasks * (weights * (32 + spec.training.optimizer.state_bytes) + 4 * 256 * values)
