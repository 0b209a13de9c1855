"""The training step on a GPU in a few kernels: masks as bits, and an update that stores no gradient.

Per score and step, memory moves the score and the optimizer's state, read and written, and three bits: 16
bytes with RMSprop; separate operations also move the gradient and effective weights. Only the rows of the
batch change from step to step, so a step is recorded as a CUDA graph after its first use for a cohort, and
nothing waits for the device until the cohort is done.

The first step in a process on a GPU is compared with the reference (``check_step``): a device, driver or
Triton on which kernels give something else, or nothing, is refused before anything is trained.

With ``matmul`` float32 or tf32, an operand is two bfloat16 numbers (see ``triton_kernels``), so products
have errors of about 2^-17 of their terms where float32 has 2^-24 and TF32 2^-11; with bfloat16 it is one.
Inputs that are pixels times one gain are exact in all of them. Scores and sums are float32.

Letters: K tasks, B images of a batch, D input pixels, O and I a layer's outputs and inputs, W words of 32
bits in a row of a mask, ceil(I / 32).
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from core.batches.inputs import Pixels
from core.errors import first_line
from core.networks.perceptron import FixedWeights
from core.specs.training import Matmul, OptimizerSpec
from core.training.cohort import CohortState, eager_step
from core.training.optimizers import Optimizer
from core.training.triton_launch import Layer, Plan, bind_layer, is_interpreted, make_plan, pack_rows

# Of ``check_step``. RMSProp's first move has one size, so a rounding that turns the sign of a tiny gradient
# turns the move: a thousandth of the scores, or a fiftieth with one bfloat16.
LOSS_TOLERANCE, MOVE_TOLERANCE = 0.02, 0.1
MOST_DIFFERENT: dict[Matmul, float] = {"float32": 0.01, "tf32": 0.01, "bfloat16": 0.05}


def packed_weights(operand: Tensor, mask: Tensor) -> Tensor:
    """Return what this step reads in place of effective weights: the bits of the mask (``Step.weights``)."""
    del operand
    return pack_rows(mask)


@dataclass
class TritonStep:
    """A training step (``core.training.cohort.StepFunction``) for a GPU, or Triton's interpreter.

    Raises ImportError on a CPU without the interpreter (TRITON_INTERPRET=1), if the base weights of a layer
    differ in size, or if the check fails.
    """

    optimizer: OptimizerSpec
    matmul: Matmul
    _layers: tuple[FixedWeights, list[Layer]] | None = None
    _plan: Plan | None = None
    _is_checked: bool = False

    def __call__(
        self, pixels: Pixels, gather_KD: Tensor, rows_KB: Tensor, fixed: FixedWeights, state: CohortState
    ) -> Tensor:
        """Update ``state`` in place; return the loss before the update, float32 [K]."""
        if self._plan is None or not self._plan.is_for(gather_KD, rows_KB, state):
            self._plan = None  # frees its memory first
            self._plan = self._new_plan(pixels, gather_KD, rows_KB, fixed, state)
        return self._plan.run(rows_KB)

    def _new_plan(
        self, pixels: Pixels, gather_KD: Tensor, rows_KB: Tensor, fixed: FixedWeights, state: CohortState
    ) -> Plan:
        _check_device(rows_KB.device)
        if not self._is_checked and not is_interpreted():
            self._is_checked = True
            check_step(self, pixels, gather_KD, rows_KB, fixed, state)
        if self._layers is None or self._layers[0] is not fixed:
            has_pixels = [isinstance(pixels.gain, float), *[False] * (len(fixed.base) - 1)]
            bind = partial(bind_layer, self.optimizer, self.matmul, pixels)
            self._layers = (
                fixed,
                [bind(w, has_pixels=one) for w, one in zip(fixed.base, has_pixels, strict=True)],
            )
        return make_plan(self._layers[1], pixels, gather_KD, rows_KB, state)


def check_step(  # noqa: PLR0917  # what a step takes
    step: TritonStep,
    pixels: Pixels,
    gather_KD: Tensor,
    rows_KB: Tensor,
    fixed: FixedWeights,
    state: CohortState,
) -> None:
    """Raise ImportError unless a step of the first task is nearly that of the reference; change nothing.

    The loss may differ by 2 %, and 1 % of a layer's scores (5 % with bfloat16) by a tenth of the longest
    move: rounding alone stays below, and a wrong kernel above.
    """
    one = slice(0, 1)
    ours, reference = (_first_task(state) for _ in range(2))
    masks = [scores >= 0 for scores in ours.scores]
    ours.effective.extend(map(pack_rows, masks))
    reference.effective.extend(torch.mul(w, mask) for w, mask in zip(fixed.operand, masks, strict=True))
    trial = TritonStep(step.optimizer, step.matmul, _is_checked=True)
    expected_1 = eager_step(Optimizer(step.optimizer))(pixels, gather_KD[one], rows_KB[one], fixed, reference)
    try:
        loss_1 = trial(pixels, gather_KD[one], rows_KB[one], fixed, ours)
        is_near = bool(((loss_1 - expected_1).abs() <= LOSS_TOLERANCE * expected_1.abs()).all())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the compiler or the driver raises
        raise ImportError(f"engine 'triton' does not run here: {first_line(error)}") from error
    starts = [scores[one] for scores in state.scores]
    shares = [
        float(_share_different(*layer)) for layer in zip(ours.scores, reference.scores, starts, strict=True)
    ]
    if not is_near or max(shares) > MOST_DIFFERENT[step.matmul]:
        raise ImportError(
            f"engine 'triton' differs from the reference here: loss {loss_1.item():.4f}, expected "
            f"{expected_1.item():.4f}; {max(shares):.1%} of a layer's scores differ"
        )


def _first_task(state: CohortState) -> CohortState:
    """Return a copy of the first task, without what a step reads in place of weights."""
    return CohortState(
        scores=[scores[:1].clone() for scores in state.scores],
        effective=[],
        buffers=[tuple(buffer[:1].clone() for buffer in layer) for layer in state.buffers],
        step=state.step.clone(),
    )


def _share_different(ours: Tensor, reference: Tensor, start: Tensor) -> Tensor:
    longest = (reference - start).abs().max()
    return ((ours - reference).abs() > MOVE_TOLERANCE * longest).float().mean()


def _check_device(device: torch.device) -> None:
    if device.type != "cuda" and not is_interpreted():
        raise ImportError(
            f"engine 'triton' on device '{device.type}': expected a GPU; take executor.engine 'auto', or set "
            "TRITON_INTERPRET=1 to run it slowly without one"
        )
