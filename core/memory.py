"""Peak memory of training a cohort, known before it starts."""

from collections.abc import Sequence

from core.networks import Layer
from core.specs import TrainingSpec


def cohort_peak_bytes(layers: Sequence[Layer], training: TrainingSpec, num_tasks: int) -> int:
    """Return the bytes that training ``num_tasks`` tasks adds to a worker at its peak.

    With K tasks, n weights, B images a batch, T steps and layer widths w, inputs included:

        K * (4 * n * (5 + optimizer buffers) + 4 * B * 4 * sum(w) + 16 * T * B)

    float32 scores, effective weights, gradient and two temporaries a weight; activations,
    their gradients and two temporaries; the int64 order of images, twice while stacked.
    The data set is shared between the workers of a node and counted apart.
    """
    weights = sum(layer.num_weights for layer in layers)
    widths = layers[0].shape[1] + sum(layer.shape[0] for layer in layers)
    per_weight = 5 + training.optimizer.num_buffers
    order_bytes = 16 * training.steps * training.batch_size
    return num_tasks * (4 * weights * per_weight + 16 * training.batch_size * widths + order_bytes)
