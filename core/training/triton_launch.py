"""Launches of the kernels of ``triton_step`` for one cohort, on memory that stays where it is.

Letters: as in ``triton_kernels``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from core.batches.inputs import Pixels, gather_inputs
from core.networks.perceptron import SMALLEST
from core.specs.training import Matmul, OptimizerSpec
from core.training import triton_kernels as kernels
from core.training.cohort import CohortState
from core.training.optimizers import adam_scales

BITS = 32  # of a word
TILE = 64  # of images, outputs and inputs alike
TILES = {"TILE_B": TILE, "TILE_O": TILE, "TILE_I": TILE}
SOFTMAX_ELEMENTS = 4096  # of a tile of whole rows
# No fusion into multiply-add: each operation is rounded as in the reference. Two stages fit into the 99 kB
# of shared memory that small GPUs have.
OPTIONS: dict[str, Any] = {"num_warps": 4, "num_stages": 2, "enable_fp_fusion": False}
Launch = Callable[[], object]


def is_interpreted() -> bool:
    """Return whether kernels run in Triton's interpreter, on any device."""
    return bool(triton.knobs.runtime.interpret)


def pack_rows(mask: Tensor) -> Tensor:
    """Pack bool [..., I] into int32 [..., W], lowest bit first; padding bits are 0."""
    num_words = -(-mask.shape[-1] // BITS)
    packed = torch.zeros(*mask.shape[:-1], num_words * 4, dtype=torch.uint8, device=mask.device)
    for bit in range(8):
        part = mask[..., bit::8].to(torch.uint8)
        packed[..., : part.shape[-1]] |= part << bit
    return packed.view(torch.int32)


def unpack_rows(words: Tensor, inputs: int) -> Tensor:
    """Undo ``pack_rows``: bool [..., inputs]."""
    packed = words.view(torch.uint8)
    bits = torch.stack([(packed >> bit) & 1 for bit in range(8)], dim=-1)
    return bits.flatten(-2)[..., :inputs].bool()


@dataclass
class Plan:
    """The launches of a step for one cohort, on memory that stays where it is.

    rows: int32 [K, B], the input. losses: float32 [K, B], of each image. loss: float32 [K].
    """

    gather: Tensor
    state: CohortState
    rows: Tensor
    losses: Tensor
    loss: Tensor
    launches: list[Launch]
    graph: Any = None

    def is_for(self, gather_KD: Tensor, rows_KB: Tensor, state: CohortState) -> bool:
        """Return whether the plan fits these arguments of a step."""
        return self.state is state and self.gather is gather_KD and self.rows.shape == rows_KB.shape

    def run(self, rows_KB: Tensor) -> Tensor:
        """Do a step on the images ``rows_KB``; return the loss before the update, float32 [K]."""
        self.rows.copy_(rows_KB)
        if self.graph is not None:
            self.graph.replay()
            return self.loss.clone()
        self._launch()
        if self.rows.is_cuda:  # the kernels are compiled now, and recording runs nothing
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self._launch()
        return self.loss.clone()

    def _launch(self) -> None:
        for launch in self.launches:
            launch()
        torch.mean(self.losses, dim=1, out=self.loss)


def make_plan(
    layers: Sequence["Layer"], pixels: Pixels, gather_KD: Tensor, rows_KB: Tensor, state: CohortState
) -> Plan:
    """Allocate what the steps of a cohort reuse, and bind every launch to it, in order."""
    device, optimizer, last = rows_KB.device, layers[0].optimizer, len(layers) - 1
    empty = partial(torch.empty, *rows_KB.shape, device=device)
    rows = torch.empty_like(rows_KB, dtype=torch.int32, memory_format=torch.contiguous_format)
    x, fill_x = _inputs(pixels, gather_KD, rows)
    widths = [layer.signs.shape[0] for layer in layers]
    hidden = [x, *(empty(width, dtype=layers[0].narrow) for width in widths[:-1])]
    logits, deltas = empty(widths[-1]), [empty(width, dtype=layers[0].narrow) for width in widths]
    losses, scales = empty(), torch.ones(2, device=device)
    launches: list[Launch] = [partial(state.step.add_, 1), fill_x]
    if optimizer.kind == "adam":
        launches.append(lambda: scales.copy_(torch.stack(adam_scales(optimizer, state.step))))
    for index, layer in enumerate(layers):
        out, words = [*hidden[1:], logits][index], state.effective[index]
        launches.append(partial(layer.forward, hidden[index], words, out, relu=index < last))
    launches.append(partial(_loss, logits, pixels.labels, rows, deltas[-1], losses))
    for index in range(last, 0, -1):
        words, below = state.effective[index], deltas[index - 1]
        launches.append(partial(layers[index].backward, deltas[index], words, hidden[index], below))
    for index, layer in enumerate(layers):
        launches.append(partial(layer.update, deltas[index], hidden[index], state, index, scales))
    return Plan(gather_KD, state, rows, losses, torch.empty(len(rows), device=device), launches)


def _inputs(pixels: Pixels, gather_KD: Tensor, rows: Tensor) -> tuple[Tensor, Launch]:
    """Return the first layer's input [K, B, D], uint8 pixels where they have one gain, and what fills it."""
    shape, device = (*rows.shape, gather_KD.shape[1]), rows.device
    if not isinstance(pixels.gain, float):  # colours differ in gain, so a sum of pixels does not do
        x = torch.empty(shape, device=device)
        return x, lambda: x.copy_(gather_inputs(pixels, gather_KD, rows))
    x, index = torch.empty(shape, dtype=torch.uint8, device=device), gather_KD.to(torch.int32)
    sizes = {"NUM_PIXELS": shape[2], "BATCH": shape[1], "TILE_B": 16, "TILE_I": 128}
    grid = (triton.cdiv(shape[1], 16), shape[0])
    return x, lambda: kernels.gather[grid](pixels.images, index, rows, x, **sizes)


def _loss(logits: Tensor, labels: Tensor, rows: Tensor, delta: Tensor, losses: Tensor) -> None:
    num_tasks, batch_size, outputs = logits.shape
    tile_o = triton.next_power_of_2(outputs)
    tile_b = max(1, min(16, SOFTMAX_ELEMENTS // tile_o))
    kernels.loss_and_delta[triton.cdiv(batch_size, tile_b), num_tasks](
        logits,
        labels,
        rows,
        delta,
        losses,
        SMALLEST,
        BATCH=batch_size,
        OUTPUTS=outputs,
        PRODUCT=_product(),
        TILE_B=tile_b,
        TILE_O=tile_o,
        **OPTIONS,
    )


def _product() -> tl.dtype:
    return tl.float32 if is_interpreted() else tl.bfloat16


@dataclass(frozen=True)
class Layer:
    """One layer's constants.

    signs: int32 [O, W]. constant: the size of its weights. pixel_scale: gain and offset, if its input is
    pixels. narrow: dtype of activations and their gradients in memory. sizes: what its kernels share.
    """

    optimizer: OptimizerSpec
    signs: Tensor
    constant: float
    pixel_scale: tuple[float, float]
    has_pixels: bool
    narrow: torch.dtype
    sizes: dict[str, Any]

    def forward(self, hidden: Tensor, words: Tensor, out: Tensor, *, relu: bool) -> None:
        """Launch ``kernels.forward``."""
        (num_tasks, batch_size, outputs), sizes = out.shape, self.sizes | {"BATCH": out.shape[1]}
        kernels.forward[_num_tiles(batch_size, outputs), num_tasks](
            hidden,
            words,
            self.signs,
            out,
            self.constant,
            *self.pixel_scale,
            **sizes,
            PIXELS=self.has_pixels,
            RELU=relu,
        )

    def backward(self, delta: Tensor, words: Tensor, hidden: Tensor, out: Tensor) -> None:
        """Launch ``kernels.backward``."""
        (num_tasks, batch_size, inputs), sizes = out.shape, self.sizes | {"BATCH": out.shape[1]}
        kernels.backward[_num_tiles(batch_size, inputs), num_tasks](
            delta, words, self.signs, hidden, out, self.constant, **sizes
        )

    def update(self, delta: Tensor, hidden: Tensor, state: CohortState, layer: int, scales: Tensor) -> None:
        """Launch ``kernels.update`` on one layer of ``state``."""
        spec, scores, sizes = self.optimizer, state.scores[layer], self.sizes | {"BATCH": delta.shape[1]}
        first, second, *_ = (*state.buffers[layer], scores, scores)  # scores: a place that is not touched
        num_tasks, outputs, inputs = scores.shape
        rates = [(spec.smoothing or spec.beta1 or 0), spec.beta2 or 0]
        kernels.update[_num_tiles(outputs, inputs), num_tasks](
            delta,
            hidden,
            self.signs,
            scores,
            first,
            second,
            state.effective[layer],
            scales,
            self.constant,
            *self.pixel_scale,
            spec.lr,
            spec.weight_decay,
            spec.momentum or 0.0,
            *(value for rate in rates for value in (rate, 1 - rate)),
            spec.eps or 0.0,
            **sizes,
            PIXELS=self.has_pixels,
            KIND=spec.kind,
            DECAY=bool(spec.weight_decay),
            MOMENTUM=bool(spec.momentum),
        )


def bind_layer(
    optimizer: OptimizerSpec, matmul: Matmul, pixels: Pixels, base: Tensor, *, has_pixels: bool
) -> Layer:
    """Read a layer's constants, once per network. Raises ImportError if its weights differ in size."""
    constant = base.abs().max()
    if not bool((base.abs() == constant).all()):
        raise ImportError("engine 'triton' needs base weights of one size in each layer, +c or -c")
    outputs, inputs = base.shape
    is_narrow = matmul == "bfloat16"
    sizes = {
        "INPUTS": inputs,
        "OUTPUTS": outputs,
        "WORDS": -(-inputs // BITS),
        "PARTS": 1 if is_narrow else 2,
    }
    return Layer(
        optimizer=optimizer,
        signs=pack_rows(base > 0),
        constant=float(constant),
        pixel_scale=(float(pixels.gain), float(pixels.offset)) if has_pixels else (1.0, 0.0),
        has_pixels=has_pixels,
        narrow=torch.bfloat16 if is_narrow else torch.float32,
        sizes=sizes | TILES | OPTIONS | {"PRODUCT": _product()},
    )


def _num_tiles(rows: int, columns: int) -> int:
    return -(-rows // TILE) * -(-columns // TILE)
