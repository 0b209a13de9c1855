"""Images on a device, and the batches of them that tasks see.

Letters: K tasks, B images of a batch, D input pixels, N images.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.data.datasets import Dataset, PerChannel


@dataclass(frozen=True)
class Pixels:
    """One part (train or test) of a data set, on a device.

    images: uint8 [N, D]. labels: int64 [N]. A network sees pixel * gain + offset, which are floats, or
    float32 [D] for images in colour. files: one per image, in place of ``images``.
    """

    images: Tensor
    labels: Tensor
    gain: float | Tensor
    offset: float | Tensor
    files: tuple[str, ...] = ()


def to_device(dataset: Dataset, part: str, device: torch.device) -> Pixels:
    """Put ``part`` ("train" or "test") on ``device``; on a CPU nothing is copied."""
    images = getattr(dataset, f"{part}_images")
    gain, offset = pixel_scale(dataset.scale, dataset.mean, dataset.std, dataset.image_shape)
    return Pixels(
        images=_read_only_tensor(images.reshape(len(images), dataset.num_inputs)).to(device),
        labels=_read_only_tensor(getattr(dataset, f"{part}_labels")).to(device),
        gain=gain if isinstance(gain, float) else gain.to(device),
        offset=offset if isinstance(offset, float) else offset.to(device),
        files=getattr(dataset, f"{part}_files"),
    )


def pixel_scale(
    scale: float, mean: PerChannel, std: PerChannel, image_shape: tuple[int, ...]
) -> tuple[float | Tensor, float | Tensor]:
    """Return gain and offset such that pixel * gain + offset = (pixel / scale - mean) / std."""
    if not isinstance(mean, tuple) or not isinstance(std, tuple):
        assert not isinstance(mean, tuple), "both are by channel or both are not"
        assert not isinstance(std, tuple), "both are by channel or both are not"
        return 1 / (scale * std), -mean / std
    each = math.prod(image_shape[1:])
    pairs = list(zip(mean, std, strict=True))
    gains = torch.tensor([1 / (scale * s) for _, s in pairs]).repeat_interleave(each)
    return gains, torch.tensor([-m / s for m, s in pairs]).repeat_interleave(each)


def gather_inputs(pixels: Pixels, gather_KD: Tensor, rows_KB: Tensor) -> Tensor:
    """Return the normalised inputs, float32 [K, B, D]; a gather index of D reads a zero pixel."""
    num_tasks, batch_size = rows_KB.shape
    num_pixels = gather_KD.shape[1]
    index_KBD = gather_KD.clamp(max=num_pixels - 1).unsqueeze(1).expand(num_tasks, batch_size, -1)
    raw_KBD = torch.gather(pixels.images[rows_KB], 2, index_KBD)
    raw_KBD = raw_KBD * (gather_KD < num_pixels).unsqueeze(1)
    return raw_KBD.float() * pixels.gain + pixels.offset


def pixel_table(pixels: Pixels) -> Tensor:
    """Return the normalised value of each pixel value, float32 [256]."""
    return torch.arange(256, device=pixels.images.device).float() * pixels.gain + pixels.offset


def _read_only_tensor(array: NDArray[np.generic]) -> Tensor:
    """View ``array`` as a tensor that must never be written to.

    The array may be a page of Ray's object store, shared by all workers of the node; torch cannot
    mark a tensor read-only, and warns. These tensors are only indexed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
