"""Any ``torch.nn.Module`` as a base network: a pure function of weights, statistics and images.

The weights of its linear and convolution layers are masked; biases are held at zero, affine parts
of normalisation at one and zero. Running statistics of batch normalisation belong to a task: they
go in and come out. The module itself is never changed (``torch.func.functional_call``).

Letters: K tasks, B images, C channels, H and W height and width, O outputs, S running statistics.
"""

import contextlib
import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from core.errors import ConfigError
from core.networks.architectures import ImageShape, build_module
from core.own_code.guard import user_code
from core.specs.network import NetworkSpec

MASKED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# torch has no public name for all of a kind, whatever its dimensions.
BATCH_NORM = nn.modules.batchnorm._BatchNorm  # noqa: SLF001
DROPOUT = nn.modules.dropout._DropoutNd  # noqa: SLF001
NORMS = (BATCH_NORM, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)  # noqa: SLF001


class _EnoughError(Exception):
    """Ends a pass whose rest nobody needs."""


@dataclass(frozen=True)
class ModuleNetwork:
    """A module, read once.

    masked: names of the weights that masks cover, in order. norms: (name, channels) of each batch
    normalisation with running statistics. fixed: every other parameter and buffer, by name. is_own: whether
    it is the user's: its batches are copies, and what it prints goes to stderr. is_strided: whether it takes
    images whose channels are last in memory; it gets contiguous ones otherwise.
    """

    module: nn.Module
    image_shape: ImageShape
    masked: tuple[str, ...]
    norms: tuple[tuple[str, int], ...]
    fixed: dict[str, Tensor]
    is_own: bool = False
    is_strided: bool = True

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each masked weight, (out, in) or (out, in / groups, height, width)."""
        return tuple(tuple(self.module.get_parameter(name).shape) for name in self.masked)

    @property
    def num_statistics(self) -> int:
        """S: a mean and a variance for each channel that is normalised."""
        return sum(2 * channels for _, channels in self.norms)

    def start_statistics(self, device: torch.device) -> Tensor:
        """Return running statistics before training, means 0 and variances 1, float32 [S]."""
        parts = [torch.stack([torch.zeros(c), torch.ones(c)]).flatten() for _, c in self.norms]
        return torch.cat([torch.empty(0), *parts]).to(device)

    def logits(self, x_BCHW: Tensor, weights: Sequence[Tensor], statistics_S: Tensor) -> Tensor:
        """Return the logits [B, O], normalised by running statistics (test)."""
        return self._call(self._tester, x_BCHW, weights, self.split(statistics_S))

    def train_logits(self, x_BCHW: Tensor, weights: Sequence[Tensor], statistics_S: Tensor) -> Tensor:
        """Return the logits [B, O], normalised by the batch; ``statistics_S`` is updated in place."""
        parts = self.split(statistics_S)
        logits = self._call(self.module, x_BCHW, weights, parts)
        self._put_back(parts, statistics_S)
        return logits

    def cohort_logits(
        self, x_KBCHW: Tensor, weights: Sequence[Tensor], statistics_KS: Tensor, *, training: bool
    ) -> Tensor:
        """Return the logits [K, B, O] of K tasks at once; weights are [K, ...] per layer.

        Convolutions of the tasks become one grouped convolution.
        """
        if len(x_KBCHW) == 1:
            call = self.train_logits if training else self.logits
            return call(x_KBCHW[0], [weight[0] for weight in weights], statistics_KS[0]).unsqueeze(0)
        module, parts = self.active(training=training), self.split(statistics_KS)
        found: Tensor = vmap(partial(self._call, module))(x_KBCHW, tuple(weights), parts)
        if training:
            self._put_back(parts, statistics_KS)
        return found

    def norm_moments(
        self, x_GNCHW: Tensor, weights: Sequence[Tensor], statistics_S: Tensor, num: int
    ) -> list[tuple[str, Tensor, Tensor]]:
        """Return (name, means [G, C], variances [G, C]) of what enters the first ``num`` batch normalisations.

        For each of G groups of N images, normalised by running statistics on the way. The pass ends at the last.
        """
        found: list[tuple[str, Tensor, Tensor]] = []
        size = x_GNCHW.shape[:2]

        def see(name: str, given: tuple[Tensor, ...]) -> None:
            values_GNCX = given[0].reshape(*size, given[0].shape[1], -1)
            var_GC, mean_GC = torch.var_mean(values_GNCX, dim=(1, 3), correction=0)
            found.append((name, mean_GC, var_GC))
            if len(found) == num:
                raise _EnoughError

        hooks = [
            self._tester.get_submodule(name).register_forward_pre_hook(
                lambda _, given, name=name: see(name, given)
            )
            for name, _ in self.norms
        ]
        try:
            with contextlib.suppress(_EnoughError), torch.no_grad():
                self.logits(x_GNCHW.flatten(0, 1), weights, statistics_S)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def split(self, statistics: Tensor) -> dict[str, Tensor]:
        """Return running statistics, [..., S], by the name of their buffer, as separate tensors.

        ``vmap`` updates a whole tensor in place, but not a part of one.
        """
        return {name: statistics[..., place].clone() for name, place in statistics_slices(self.norms)}

    def _put_back(self, parts: dict[str, Tensor], statistics: Tensor) -> None:
        if parts:
            statistics.copy_(torch.cat(list(parts.values()), dim=-1))

    def active(self, *, training: bool) -> nn.Module:
        """Return the module that is called in training, or at test."""
        return self.module if training else self._tester

    @cached_property
    def _tester(self) -> nn.Module:
        return copy.deepcopy(self.module).eval()

    def _call(
        self, module: nn.Module, x_BCHW: Tensor, weights: Sequence[Tensor], statistics: dict[str, Tensor]
    ) -> Tensor:
        values = self.values(weights, statistics)
        output: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if self.is_own:
            kept = torch.preserve_format if self.is_strided else torch.contiguous_format
            x_BCHW, output = x_BCHW.clone(memory_format=kept), contextlib.redirect_stdout(sys.stderr)
        with output:
            logits: Tensor = functional_call(module, values, (x_BCHW,), strict=False)
        return logits

    def values(self, weights: Sequence[Tensor], statistics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return all parameters and buffers by name, for ``torch.func.functional_call``."""
        return self.fixed | dict(zip(self.masked, weights, strict=True)) | statistics


def make_network(
    spec: NetworkSpec, image_shape: ImageShape, device: torch.device | None = None
) -> ModuleNetwork:
    """Return the network of ``spec``. Raises ConfigError if its module cannot be a base network."""
    module, device = build_module(spec, image_shape), device or torch.device("cpu")
    if spec.import_path is None:
        return read_module(module, image_shape, device)
    try:
        network = replace(read_module(module, image_shape, device), is_own=True)
    except ConfigError as error:
        raise ConfigError(f"{spec.own_code}: {error}") from error
    network = replace(network, is_strided=_takes_strided(network, device))
    with user_code(f"{spec.own_code} cannot be copied", "expected a plain module"):
        network.active(training=False)  # now: training may leave in the module what a test must not see
    return network


def read_module(module: nn.Module, image_shape: ImageShape, device: torch.device) -> ModuleNetwork:
    """Find which parameters of ``module`` are masked and hold the others fixed; sets it to training."""
    masked: list[str] = []
    norms: list[tuple[str, int]] = []
    fixed: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        _check_part(name, part)
        if isinstance(part, BATCH_NORM):
            part.num_batches_tracked = None  # a counter that nothing here reads
        prefix = f"{name}." if name else ""
        for key, value in part.named_parameters(recurse=False):
            _check_parameter(prefix + key, part, value)
            if isinstance(part, MASKED) and key == "weight":
                masked.append(prefix + key)
            else:
                fixed[prefix + key] = _held(prefix + key, part, value).to(device)
        for key, value in part.named_buffers(recurse=False):
            fixed[prefix + key] = value.to(device)
        if isinstance(part, BATCH_NORM):
            norms.append((name, part.num_features))
    if not masked:
        raise ConfigError("found no linear or convolution layer, expected at least one to mask")
    _check_tied({name: module.get_parameter(name) for name in masked})
    return ModuleNetwork(module.train(), image_shape, tuple(masked), tuple(norms), fixed)


def _takes_strided(network: ModuleNetwork, device: torch.device) -> bool:
    """Return whether a network can read images whose channels are last, as augmentation makes them."""
    channels, height, width = network.image_shape
    x_BCHW = torch.zeros(2, height, width, channels, device=device).permute(0, 3, 1, 2)
    weights = [torch.zeros(shape, device=device) for shape in network.shapes]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            network.logits(x_BCHW, weights, network.start_statistics(device))
        # The user's code may raise anything; ``core.networks.probe`` says what.
        except Exception:
            return False
    return True


def _check_parameter(name: str, part: nn.Module, value: Tensor) -> None:
    kind = type(part).__name__
    if nn.parameter.is_lazy(value):
        raise ConfigError(
            f"{name} of {kind} has no size yet; expected a layer with its sizes given, such as nn.Linear(64, 32)"
        )
    if value.dtype != torch.float32:
        raise ConfigError(f"{name} of {kind} is of {value.dtype}, expected torch.float32")


def _check_tied(weights: dict[str, Tensor]) -> None:
    """Raise ConfigError if two layers share a weight: each would need the mask of the other."""
    names: dict[int, str] = {}
    for name, weight in weights.items():
        other = names.setdefault(weight.untyped_storage().data_ptr(), name)
        if other != name and weight.numel():
            raise ConfigError(
                f"{other} and {name} are one weight (tied layers); expected a weight for each, or one layer that is "
                "called twice"
            )


def _held(name: str, part: nn.Module, value: Tensor) -> Tensor:
    """Return the value at which a parameter is held that is not a masked weight."""
    if name.endswith("bias") and isinstance(part, MASKED + NORMS):
        return torch.zeros_like(value)
    if name.endswith("weight") and isinstance(part, NORMS):
        return torch.ones_like(value)
    raise ConfigError(
        f"parameter {name} of {type(part).__name__} cannot be masked; expected weights of linear "
        "and convolution layers, their biases, and normalisation"
    )


def _check_part(name: str, part: nn.Module) -> None:
    if isinstance(part, DROPOUT) and part.p > 0:
        raise ConfigError(
            f"layer {name} is dropout, whose randomness is not controlled by the seed; remove it"
        )
    if isinstance(part, BATCH_NORM) and part.momentum is None:
        raise ConfigError(f"layer {name} has momentum None, expected a number, such as 0.1")
    if isinstance(part, BATCH_NORM) and not part.track_running_stats:
        raise ConfigError(
            f"layer {name} ({type(part).__name__}) has no running statistics (track_running_stats=False), so that an "
            "answer would depend on the images beside it; expected track_running_stats=True"
        )


def statistics_slices(norms: Sequence[tuple[str, int]]) -> Iterator[tuple[str, slice]]:
    """Yield (name of torch's buffer, its place) for each of (name, channels): means, then variances."""
    start = 0
    for name, channels in norms:
        for kind in ("running_mean", "running_var"):
            yield f"{name}.{kind}", slice(start, start + channels)
            start += channels
