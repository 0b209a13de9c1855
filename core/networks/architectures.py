"""Networks as ``torch.nn.Module``: the built-in ones, and the user's own by its import path.

The built-in ones have no biases, and their batch normalisation has no affine part. Initialisation
does not matter: weights come from ``core.networks.base.base_weights``, and no module is trained in place.

Letters: B images, C channels, H and W their height and width, O outputs.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.networks.size import check_memory
from core.own_code.guard import user_code
from core.own_code.imports import find_code
from core.own_code.torch_settings import same_settings
from core.specs.network import NetworkSpec
from core.specs.own_code import OwnCode

ImageShape = tuple[int, int, int]  # channels, height, width
CONV4_CHANNELS = (64, 64, 128, 128)
CONV4_HIDDEN = (256, 256)
GEM_CHANNELS = (20, 40, 80, 160)
RESNET50_BLOCKS = (3, 4, 6, 3)


def build_module(spec: NetworkSpec, image_shape: ImageShape) -> nn.Module:
    """Return a network from [B, C, H, W] to logits [B, O]; its parameter values have no meaning.

    Raises ConfigError if the user's own network cannot be imported, or is not allowed to be.
    """
    makers: dict[str, Callable[[int, ImageShape], nn.Module]] = {
        "conv4": Conv4,
        "gem_resnet18": GemResNet18,
        "resnet50": ResNet50,
    }
    with torch.random.fork_rng(devices=[]):  # initialisation must not advance the global random state
        torch.manual_seed(0)
        if spec.kind == "module":
            assert spec.own_code is not None, "the spec requires it"
            return _own(spec.own_code, spec.outputs, image_shape)
        if spec.kind in makers:
            with torch.device("meta"):  # sizes alone
                sizes = makers[spec.kind](spec.outputs, image_shape)
            check_memory(sum(weight.numel() for weight in sizes.parameters()))
            return makers[spec.kind](spec.outputs, image_shape)
        return perceptron(spec, image_shape)


def perceptron(spec: NetworkSpec, image_shape: ImageShape) -> nn.Sequential:
    """Return a multi-layer perceptron with ReLU as a module."""
    channels, height, width = image_shape
    widths = spec.widths(channels * height * width)
    parts: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(widths):
        parts += [nn.Linear(fan_in, fan_out, bias=False), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


class Conv4(nn.Module):
    """Four 3 x 3 convolutions of 64, 64, 128, 128 channels, pooled twice, then 256-256-O."""

    def __init__(self, outputs: int, image_shape: ImageShape) -> None:
        super().__init__()
        channels, height, width = image_shape
        if min(height, width) < 4:
            raise ConfigError(f"network.kind: conv4 pools twice; found images of {height} x {width} pixels")
        widths = (channels, *CONV4_CHANNELS)
        parts: list[nn.Module] = []
        for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            parts += [nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False), nn.ReLU()]
            parts += [nn.MaxPool2d(2)] if number % 2 else []
        self.features = nn.Sequential(*parts)
        hidden = (widths[-1] * (height // 4) * (width // 4), *CONV4_HIDDEN)
        head: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(hidden):
            head += [nn.Linear(fan_in, fan_out, bias=False), nn.ReLU()]
        self.head = nn.Sequential(*head, nn.Linear(hidden[-1], outputs, bias=False))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the logits [B, O]."""
        logits: Tensor = self.head(self.features(x_BCHW).flatten(1))
        return logits


class _Block(nn.Module):
    """Convolutions, each with batch normalisation, and a shortcut around them."""

    def __init__(self, convolutions: Sequence[nn.Conv2d], stride: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList([_norm(conv.out_channels) for conv in convolutions])
        fan_in, fan_out = convolutions[0].in_channels, convolutions[-1].out_channels
        self.shortcut = nn.Sequential()
        if stride != 1 or fan_in != fan_out:
            self.shortcut = nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), _norm(fan_out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return relu(convolutions + shortcut)."""
        hidden = x_BCHW
        last = len(self.convs) - 1
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            hidden = norm(conv(hidden))
            hidden = hidden if number == last else hidden.relu()
        summed: Tensor = hidden + self.shortcut(x_BCHW)
        return summed.relu()


class GemResNet18(nn.Module):
    """The small ResNet-18 of the CIFAR experiments: 20, 40, 80, 160 channels, pooled at the end."""

    def __init__(self, outputs: int, image_shape: ImageShape) -> None:
        super().__init__()
        self.stem = nn.Conv2d(image_shape[0], GEM_CHANNELS[0], 3, padding=1, bias=False)
        self.stem_norm = _norm(GEM_CHANNELS[0])
        blocks, fan_in = [], GEM_CHANNELS[0]
        for stage, width in enumerate(GEM_CHANNELS):
            for stride in (1 if stage == 0 else 2, 1):
                convs = [
                    nn.Conv2d(fan_in, width, 3, stride, 1, bias=False),
                    nn.Conv2d(width, width, 3, 1, 1, bias=False),
                ]
                blocks.append(_Block(convs, stride))
                fan_in = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(fan_in, outputs, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the logits [B, O]; the last feature maps, 4 x 4 for 32 x 32 pixels, are averaged."""
        hidden = self.blocks(self.stem_norm(self.stem(x_BCHW)).relu())
        logits: Tensor = self.head(hidden.mean(dim=(2, 3)))
        return logits


class ResNet50(nn.Module):
    """The standard ResNet-50, with the stride in the 3 x 3 convolution of a bottleneck."""

    def __init__(self, outputs: int, image_shape: ImageShape) -> None:
        super().__init__()
        self.stem = nn.Conv2d(image_shape[0], 64, 7, 2, 3, bias=False)
        self.stem_norm = _norm(64)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, fan_in = [], 64
        for stage, num_blocks in enumerate(RESNET50_BLOCKS):
            width = 64 * 2**stage
            for number in range(num_blocks):
                stride = 2 if stage and number == 0 else 1
                convs = [
                    nn.Conv2d(fan_in, width, 1, bias=False),
                    nn.Conv2d(width, width, 3, stride, 1, bias=False),
                    nn.Conv2d(width, 4 * width, 1, bias=False),
                ]
                blocks.append(_Block(convs, stride))
                fan_in = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(fan_in, outputs, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the logits [B, O]."""
        hidden = self.pool(self.stem_norm(self.stem(x_BCHW)).relu())
        logits: Tensor = self.head(self.blocks(hidden).mean(dim=(2, 3)))
        return logits


def _own(code: OwnCode, outputs: int, image_shape: ImageShape) -> nn.Module:
    call = f"{code}(outputs={outputs}, image_shape={image_shape})"
    with same_settings(code):
        maker = find_code(code)
        torch.manual_seed(0)  # whether it was imported now or before
        with user_code(f"{call} failed", "expected a function or class of (outputs, image_shape)"):
            made = maker(outputs, image_shape)
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{call} gave a {type(made).__name__}, expected a torch.nn.Module")
    return made


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False)
