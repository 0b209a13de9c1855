"""Whether a network fits into the memory of this machine. No torch."""

from core.errors import ConfigError
from core.machine import memory_bytes

DRAWN_BYTES = 6  # for a weight: float32, and two bytes while its sign is drawn


def check_memory(num_weights: int) -> None:
    """Raise ConfigError if this machine cannot hold this many weights while they are drawn."""
    num_bytes, memory = DRAWN_BYTES * num_weights, memory_bytes()
    if num_bytes > memory:
        raise ConfigError(
            f"network: found {num_weights:,} weights, which take {num_bytes / 1e9:,.0f} GB while they are drawn, but this "
            f"machine has {memory / 1e9:,.0f} GB; expected fewer (see network.hidden, network.outputs, benchmark.image_size)"
        )
