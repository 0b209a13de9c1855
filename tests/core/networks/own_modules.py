"""Networks as users write them, good and bad; ``test_probe.py`` says which are refused, and why."""

import random
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # as everyone writes it
from torch import nn

NUM_CALLS = 0
SEEN = []


class Base(nn.Module):
    """Two linear layers; those below change what happens between them."""

    def __init__(self, outputs, image_shape):
        super().__init__()
        channels, height, width = image_shape
        self.a = nn.Linear(channels * height * width, 16)
        self.o = nn.Linear(16, outputs)

    def hidden(self, x):
        return F.relu(self.a(x.flatten(1)))

    def forward(self, x):
        return self.o(self.hidden(x))


def flat(*between, width=16):
    def make(outputs, image_shape):
        channels, height, across = image_shape
        parts = [part() for part in between]
        first, last = nn.Linear(channels * height * across, width), nn.Linear(width, outputs)
        return nn.Sequential(nn.Flatten(), first, *parts, last)

    return make


def conv(*between):
    def make(outputs, image_shape):
        channels, height, width = image_shape
        parts = [part() for part in between]
        last = nn.Linear(8 * height * width, outputs)
        return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), *parts, nn.ReLU(), nn.Flatten(), last)

    return make


linear = flat(nn.ReLU)
gelu = flat(nn.GELU)
inplace_relu = flat(lambda: nn.ReLU(inplace=True))
no_dropout = flat(nn.ReLU, lambda: nn.Dropout(0.0))
batch_norm_1d = flat(lambda: nn.BatchNorm1d(16), nn.ReLU)
batch_norm_2d = conv(lambda: nn.BatchNorm2d(8))
group_norm = conv(lambda: nn.GroupNorm(2, 8))
layer_norm = flat(lambda: nn.LayerNorm(16), nn.ReLU)
instance_norm = conv(lambda: nn.InstanceNorm2d(8, affine=True))
depthwise = conv(lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8))
local_norm = conv(lambda: nn.LocalResponseNorm(3))

dropout = flat(nn.ReLU, lambda: nn.Dropout(0.5))
rrelu = flat(nn.RReLU)
prelu = flat(nn.PReLU)
untracked = flat(lambda: nn.BatchNorm1d(16, track_running_stats=False))
instance_norm_with_statistics = conv(lambda: nn.InstanceNorm2d(8, track_running_stats=True))
lazy = flat(nn.ReLU, lambda: nn.LazyLinear(16))
wrong_size = flat(nn.ReLU, lambda: nn.Linear(17, 16))
lstm = flat(lambda: nn.LSTM(16, 16))
spectral = flat(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)))


class Attention(Base):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        width = image_shape[0] * image_shape[2]
        self.q, self.k, self.v = (nn.Linear(width, 16) for _ in range(3))
        del self.a

    def forward(self, x):
        rows = x.permute(0, 2, 1, 3).flatten(2)
        weights = (self.q(rows) @ self.k(rows).transpose(1, 2) / 4).softmax(-1)
        return self.o((weights @ self.v(rows)).mean(1))


class CalledTwice(Base):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        self.b = nn.Linear(16, 16)

    def hidden(self, x):
        return self.b(F.relu(self.b(super().hidden(x))))


class TwoNames(CalledTwice):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        self.c = self.b

    def hidden(self, x):
        return self.c(F.relu(self.b(Base.hidden(self, x))))


class InPlace(Base):
    def hidden(self, x):
        return super().hidden(x.sub_(0.5).relu_())


class View(Base):
    def hidden(self, x):
        return F.relu(self.a(x.view(x.size(0), -1)))


class Cached(Base):
    positions = None

    def hidden(self, x):
        if self.positions is None:
            self.positions = torch.linspace(0, 1, 16)
        return super().hidden(x) + self.positions


class KeepsFeatures(Base):
    def hidden(self, x):
        self.features = super().hidden(x)
        return self.features


class RandomFeatures(Base):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        self.register_buffer("mix", torch.randn(16, 16))

    def hidden(self, x):
        return super().hidden(x) @ self.mix


class Prints(Base):
    def hidden(self, x):
        print("called with", tuple(x.shape))  # noqa: T201
        return super().hidden(x)


class FunctionalDropout(Base):
    def hidden(self, x):
        return F.dropout(super().hidden(x), 0.5, self.training)


class AlwaysDropout(Base):
    def hidden(self, x):
        return super().hidden(x) if self.training else F.dropout(super().hidden(x))


class NumpyNoise(Base):
    def hidden(self, x):
        return super().hidden(x) + float(np.random.rand())  # noqa: NPY002


class PythonNoise(Base):
    def hidden(self, x):
        return super().hidden(x) + random.random()


class OwnGenerator(Base):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        self.draws = np.random.default_rng(0)

    def hidden(self, x):
        return super().hidden(x) + float(self.draws.random())


class Clock(Base):
    def hidden(self, x):
        return super().hidden(x) + time.perf_counter() % 1


class OwnBuffer(Base):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        self.register_buffer("mu", torch.zeros(16))

    def hidden(self, x):
        found = super().hidden(x)
        if self.training:
            self.mu.mul_(0.9).add_(0.1 * found.detach().mean(0))
        return found - self.mu


class AssignedBuffer(OwnBuffer):
    def hidden(self, x):
        found = Base.hidden(self, x)
        self.mu = 0.9 * self.mu + 0.1 * found.detach().mean(0)
        return found - self.mu


class ChangesWeights(Base):
    def hidden(self, x):
        self.a.weight.data.clamp_(-0.01, 0.01)
        return super().hidden(x)


class Counter(Base):
    calls = 0

    def hidden(self, x):
        self.calls += 1
        return super().hidden(x) * (0.5 if self.calls > 1000 else 1.0)


class GlobalCounter(Base):
    def hidden(self, x):
        global NUM_CALLS  # noqa: PLW0603
        NUM_CALLS += 1
        return super().hidden(x)


class GlobalList(Base):
    def hidden(self, x):
        SEEN.append(float(x.sum()))
        return super().hidden(x)


class FirstBatch(Base):
    mean = None

    def hidden(self, x):
        if self.mean is None:
            self.mean = x.mean()
        return super().hidden(x - self.mean)


class BatchMean(Base):
    def hidden(self, x):
        found = super().hidden(x)
        return found if self.training else found - found.mean(0)


class Squeezed(Base):
    def forward(self, x):
        return super().forward(x).squeeze()


class Tied(CalledTwice):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        self.d = nn.Linear(16, 16)
        self.d.weight = self.b.weight


class Tuple(Base):
    def forward(self, x):
        return super().forward(x), x


class OtherOutputs(Base):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs + 1, image_shape)


class Doubles(Base):
    def forward(self, x):
        return super().forward(x).double()


def halves(outputs, image_shape):
    return Base(outputs, image_shape).half()


class Unused(CalledTwice):
    def hidden(self, x):
        return Base.hidden(self, x)


class Detached(Base):
    def hidden(self, x):
        return super().hidden(x).detach()


class Rounded(Base):
    def hidden(self, x):
        return super().hidden(x).round()


class DrawnByNumpy(Base):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        self.register_buffer("shift", torch.from_numpy(np.random.default_rng().random(16)).float())

    def hidden(self, x):
        return super().hidden(x) + self.shift


class DrawnByPython(Base):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        self.shift = random.random()

    def hidden(self, x):
        return super().hidden(x) + self.shift


class ByHash(Base):
    scale = 1 + hash("supermask") % 1009 / 1009

    def hidden(self, x):
        return super().hidden(x) * self.scale


class OrderOfSet(CalledTwice):
    def __init__(self, outputs, image_shape):
        super().__init__(outputs, image_shape)
        del self.b
        for name in {"b", *(f"unit_{number}" for number in range(9))}:
            self.add_module(name, nn.Linear(16, 16))

    def hidden(self, x):
        found = Base.hidden(self, x)
        return sum(layer(found) for name, layer in self.named_children() if name not in ("a", "o"))


def remember(found, seen=[]):  # noqa: B006  # as it happens
    seen.append(1)
    return found * (1.0 if len(seen) < 1000 else 0.5)


class RemembersInAFunction(Base):
    def hidden(self, x):
        return remember(super().hidden(x))


class Counts:
    number = 0


class CountsInAClass(Base):
    def hidden(self, x):
        Counts.number += 1
        return super().hidden(x) * (1.0 if Counts.number < 1000 else 0.5)


def doubles(outputs, image_shape):
    torch.set_default_dtype(torch.float64)
    return Base(outputs, image_shape)


def more_threads(outputs, image_shape):
    torch.set_num_threads(torch.get_num_threads() + 1)
    return Base(outputs, image_shape)


def no_module(outputs, image_shape):
    return lambda x: x


def raises(outputs, image_shape):
    raise KeyError("width")


def ends(outputs, image_shape):
    sys.exit(3)
