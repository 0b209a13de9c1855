"""The network of one task as a plain module, whose weights are base * mask."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.networks.architectures import ImageShape
from core.networks.module import make_network
from core.specs.network import NetworkSpec


def masked_module(
    spec: NetworkSpec,
    image_shape: ImageShape,
    base: Sequence[Tensor],
    masks: Sequence[NDArray[np.bool_]],
    statistics: NDArray[np.float32] | None = None,
) -> nn.Module:
    """Return a module in evaluation mode: float32 [B, C, H, W], normalised, to logits [B, O].

    base: float32 [O, I, ...] per layer. masks: bool of the same shapes. statistics: float32 [S], running
    statistics of batch normalisation, if the network has any. Raises ConfigError.
    """
    network = make_network(spec, image_shape)
    weights = [weight * torch.from_numpy(mask) for weight, mask in zip(base, masks, strict=True)]
    start = network.start_statistics(torch.device("cpu"))
    values = network.values(weights, network.split(start if statistics is None else torch.tensor(statistics)))
    network.module.load_state_dict(values, strict=False)
    return network.module.eval()
