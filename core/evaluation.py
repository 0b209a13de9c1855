"""Accuracy with the task given (scenario GG).

A prediction is the argmax over all s outputs, so a superfluous neuron that wins is an
error.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.benchmarks import TaskView
from core.inputs import Pixels, gather_inputs
from core.training import forward

CHUNK_IMAGES = 1024  # images in one forward pass


def correct_images(
    view: TaskView, pixels: Pixels, base: Sequence[Tensor], mask: Sequence[NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Tell for each test image of the task whether ``mask`` classifies it, bool [test rows].

    pixels: the test images. base: float32 [O, I] a layer. mask: bool [O, I] a layer.
    """
    device = base[0].device
    effective = [
        torch.where(torch.from_numpy(m).to(device), w, 0.0).unsqueeze(0)
        for m, w in zip(mask, base, strict=True)
    ]
    gather_1D = torch.from_numpy(view.input_gather).to(device).unsqueeze(0)
    rows = torch.from_numpy(view.test_rows).to(device)
    correct = []
    for rows_B in torch.split(rows, CHUNK_IMAGES):
        _, logits_1BO = forward(gather_inputs(pixels, gather_1D, rows_B.unsqueeze(0)), effective)
        correct.append(logits_1BO[0].argmax(dim=1) == pixels.labels[rows_B])
    return torch.cat(correct).cpu().numpy()
