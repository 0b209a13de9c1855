"""Is the user's own network a pure function? Asked on a small batch, before anything is written.

A mask means something only if its network gives the same answer again: beside other images, after
other tasks, in another process. The probe builds the network twice, calls it several times in training
and at test, does so once more in another process, and compares bits.

Letters: B images, C channels, H and W height and width, O outputs, S running statistics.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from core.errors import ConfigError
from core.networks.architectures import ImageShape
from core.networks.base import fan_in
from core.networks.layer_trace import Trace, traced
from core.networks.module import ModuleNetwork, make_network
from core.networks.probe_process import probe_elsewhere
from core.networks.python_state import changed_state, python_state
from core.networks.random_state import kept_random_states, random_state
from core.own_code.files import code_digest, code_files
from core.own_code.guard import user_code
from core.specs.inference import InferenceSpec
from core.specs.network import NetworkSpec

NUM_IMAGES = 4
TOLERANCE = 1e-3  # of the largest logit: rounding differs with the number of images
CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Inputs:
    """Images [B, C, H, W] and weights, [out, in, ...] per layer."""

    x: Tensor
    weights: tuple[Tensor, ...]


@dataclass(frozen=True)
class _Answer:
    """What a call gave. grads: one per masked layer, None if it was not used. statistics: after the call."""

    logits: Tensor
    grads: tuple[Tensor | None, ...]
    statistics: Tensor

    def equals(self, other: "_Answer") -> bool:
        """Return whether all bits are the same."""
        pairs = [(self.logits, other.logits), (self.statistics, other.statistics)]
        pairs += [
            (a, b) for a, b in zip(self.grads, other.grads, strict=True) if a is not None and b is not None
        ]
        return all(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) for a, b in pairs)


def check_network(spec: NetworkSpec, image_shape: ImageShape) -> None:
    """Raise ConfigError, naming the layer or the key, unless the user's own network is a pure function.

    Built-in networks are. Global random states are left as they were.
    """
    if spec.own_code is not None:
        _check(spec, image_shape, code_digest(spec.own_code))


def check_inference(spec: NetworkSpec, image_shape: ImageShape, inference: InferenceSpec) -> None:
    """Raise ConfigError if a single image cannot decide, as it must, in the user's own network.

    A superposition is normalised by the images that decide: without height and width, one is too few.
    """
    by_batch = inference.norms == "batch" and inference.algorithm != "exhaustive"
    if spec.import_path is None or not by_batch or inference.images not in (1, "each"):
        return
    with kept_random_states():
        network = make_network(spec, image_shape)
        inputs = _inputs(network, 0)
        with user_code(
            f"evaluation.inference: one image cannot decide in {spec.own_code}",
            "expected evaluation.inference.norms=running, algorithm=exhaustive, or a larger number of images",
        ):
            _called(network, _Inputs(inputs.x[:1], inputs.weights), training=True)


@lru_cache(maxsize=16)
def _check(spec: NetworkSpec, image_shape: ImageShape, digest: str) -> None:  # noqa: ARG001  # a key of the cache
    name = str(spec.own_code)
    with kept_random_states():
        first, second = (make_network(spec, image_shape) for _ in range(2))
        expected = (
            f"expected a module that takes float32 {[NUM_IMAGES, *image_shape]}, or any number of images"
        )
        try:
            with user_code(f"{name} cannot be called", expected):
                files = {} if spec.own_code is None else code_files(spec.own_code)
                problem = next(_problems(first, second, spec.outputs, files), None)
        except ConfigError as error:
            where = _failing(make_network(spec, image_shape))
            raise ConfigError(f"{error}; it was in {where}" if where else str(error)) from error
        problem = problem or _elsewhere(spec, image_shape)
    if problem is not None:
        raise ConfigError(f"{name} {problem}")


def network_digest(spec: NetworkSpec, image_shape: ImageShape) -> str:
    """Return the sha256 (hex) of the layers of a network and of its answers to images."""
    network, whole = make_network(spec, image_shape), hashlib.sha256()
    inputs = _inputs(network, 0)
    whole.update(repr([network.masked, network.shapes, network.norms, sorted(network.fixed)]).encode())
    for training in (True, False):
        answer = _answer(network, inputs, training=training)
        for found in (answer.logits, *answer.grads, answer.statistics):
            whole.update(b"" if found is None else _bits(torch.nan_to_num(found)))
    return whole.hexdigest()


def _elsewhere(spec: NetworkSpec, image_shape: ImageShape) -> str | None:
    """Return why a network, good here, is not the same one in another process; None if it is."""
    found = probe_elsewhere(spec, image_shape)
    if found.error is not None:
        return f"cannot be used in another process, as on a worker ({found.error})"
    if found.digest != network_digest(spec, image_shape):
        return (
            "is another network, or gives another answer, in another process; expected nothing that differs there: random "
            "numbers or times when its file is imported, hashes of texts, the order of sets"
        )
    return None


def _problems(
    first: ModuleNetwork, second: ModuleNetwork, outputs: int, files: Collection[str]
) -> Iterator[str]:
    """Yield why a network is no pure function. second: the same network, built again."""
    for name, value in first.fixed.items():
        if not _same(value, second.fixed[name]):
            yield f"has another {name} each time it is built; expected no random numbers but those of torch"
    inputs = (_inputs(first, 0), _inputs(first, 1))
    for training in (True, False):
        yield from _problems_in(first, second, inputs, outputs, files, training=training)
    yield from _unused(first, inputs)
    yield from _depends_on_others(first, inputs[0], outputs)


def _problems_in(
    first: ModuleNetwork,
    second: ModuleNetwork,
    inputs: tuple[_Inputs, _Inputs],
    outputs: int,
    files: Collection[str],
    *,
    training: bool,
) -> Iterator[str]:
    mode, module = "in training" if training else "at test", first.active(training=training)
    yield from _wrong_logits(_called(first, inputs[0], training=training)[0], NUM_IMAGES, outputs)
    before = random_state()
    yield from _changes(first, inputs[0], module, mode)
    if before != random_state():
        where = _random_layer(first, inputs[0], training=training)
        yield f"draws random numbers {mode}, in {where}; their seed is not the sweep's, so remove it"
    state = python_state(module, files)
    answers = [_answer(first, one, training=training) for one in (*inputs, inputs[0])]
    if not answers[0].equals(answers[2]):
        where = _differing_layer(first, inputs[0], training=training)
        yield f"gives another answer to the same images {mode} when it is called again, in {where}"
    changed = changed_state(state, python_state(module, files))
    if changed:
        yield f"changes {', '.join(changed[:3])} when it is called {mode}, which nothing stores; remove it"
    if not answers[1].equals(_answer(second, inputs[1], training=training)):
        yield f"gives another answer {mode} when it is built again, or when other images came before"


def _wrong_logits(found: Any, num_images: int, outputs: int) -> Iterator[str]:
    if not isinstance(found, Tensor):
        yield f"gave a {type(found).__name__}, expected logits [B, outputs]"
    elif found.ndim == 2 and found.shape[0] == num_images and found.shape[1] != outputs:
        yield f"gives {found.shape[1]} outputs, network.outputs says {outputs}"
    elif found.shape != (num_images, outputs):
        yield f"gave {list(found.shape)} for {num_images} images, expected logits {[num_images, outputs]}"
    elif found.dtype != torch.float32:
        yield f"gave logits of {found.dtype}, expected torch.float32"


def _changes(network: ModuleNetwork, inputs: _Inputs, module: nn.Module, mode: str) -> Iterator[str]:
    """Yield the buffer, parameter or weight that a call changes; statistics of batch normalisation may change."""
    parts = network.split(network.start_statistics(CPU))
    weights = tuple(weight.clone() for weight in inputs.weights)
    values = network.values(weights, parts)
    before = {name: value.detach().clone() for name, value in values.items() if name not in parts}
    functional_call(module, values, (inputs.x.clone(),), strict=False)
    changed = [name for name, value in before.items() if not _same(value, values[name])]
    if changed:
        yield (
            f"changes {changed[0]} when it is called {mode}; only the running statistics of batch normalisation may "
            "change, which belong to a task"
        )


def _unused(network: ModuleNetwork, inputs: tuple[_Inputs, _Inputs]) -> Iterator[str]:
    """Yield the first layer whose weights get no gradient, or only zeros."""
    answers = [_answer(network, one, training=True) for one in inputs]
    for name, *grads in zip(network.masked, *(answer.grads for answer in answers), strict=True):
        if all(grad is None for grad in grads):
            yield f"does not use {name}, or cuts its gradient, so that its mask cannot be learned; remove the layer"
        elif not any(grad is not None and bool(grad.any()) for grad in grads):
            yield f"gives {name} gradients of zero only, so that its mask cannot be learned"


def _depends_on_others(network: ModuleNetwork, inputs: _Inputs, outputs: int) -> Iterator[str]:
    """Yield if the answer to an image depends on those beside it."""
    beside = _answer(network, inputs, training=False).logits[:1]
    alone, _ = _called(network, _Inputs(inputs.x[:1], inputs.weights), training=False)
    wrong = next(_wrong_logits(alone, 1, outputs), None)
    if wrong is not None:
        yield wrong
        return
    scale = max(1.0, float(torch.nan_to_num(beside).abs().max()))
    if not torch.allclose(alone, beside, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
        yield "gives an image another answer at test when other images are beside it; expected an answer for each"


def _inputs(network: ModuleNetwork, seed: int) -> _Inputs:
    draw = torch.Generator().manual_seed(seed)
    return _Inputs(
        torch.randn(NUM_IMAGES, *network.image_shape, generator=draw),
        tuple(torch.randn(shape, generator=draw) * (2 / fan_in(shape)) ** 0.5 for shape in network.shapes),
    )


def _called(network: ModuleNetwork, inputs: _Inputs, *, training: bool) -> tuple[Any, _Answer | None]:
    """Call a network as training or a test does; return what it gave, and as an answer if it is a tensor."""
    weights = [weight.clone().requires_grad_() for weight in inputs.weights]
    statistics_S = network.start_statistics(CPU)
    call = network.train_logits if training else network.logits
    found: Any = call(inputs.x, weights, statistics_S)
    if not isinstance(found, Tensor):
        return found, None
    grads: tuple[Tensor | None, ...] = (None,) * len(weights)
    if found.requires_grad:
        labels = torch.arange(len(found)) % max(1, found.shape[-1])
        loss = torch.nn.functional.cross_entropy(found, labels) if found.ndim == 2 else found.sum()
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
    return found, _Answer(found.detach(), grads, statistics_S)


def _answer(network: ModuleNetwork, inputs: _Inputs, *, training: bool) -> _Answer:
    _, answer = _called(network, inputs, training=training)
    assert answer is not None, "its type was checked"
    return answer


def _failing(network: ModuleNetwork) -> str | None:
    """Return the layer in which a call fails, None if it does not fail."""
    inputs = _inputs(network, 0)
    for training in (True, False):
        with traced(network.active(training=training), random_state) as trace:
            try:
                with user_code("", ""):
                    _called(network, inputs, training=training)
                    _called(network, _Inputs(inputs.x[:1], inputs.weights), training=False)
            except ConfigError:
                return trace.entered[-1] if trace.entered else None
    return None


def _random_layer(network: ModuleNetwork, inputs: _Inputs, *, training: bool) -> str:
    return _trace(network, inputs, training=training).random or "a layer"


def _differing_layer(network: ModuleNetwork, inputs: _Inputs, *, training: bool) -> str:
    first, second = (_trace(network, inputs, training=training) for _ in range(2))
    return first.differs(second) or "its gradient"


def _trace(network: ModuleNetwork, inputs: _Inputs, *, training: bool) -> Trace:
    with traced(network.active(training=training), random_state) as trace:
        _called(network, inputs, training=training)
    return trace


def _same(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and one.dtype == two.dtype and _bits(one) == _bits(two)


def _bits(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
