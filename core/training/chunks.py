"""A cohort in chunks: tasks that train together, as many at a time as the step takes and memory holds.

A step that is compiled for a number of tasks gets that number: a smaller chunk is filled up with its first task,
trained again beside it, whose result is thrown away. Only a task alone is not filled up: it is what a failed
cohort is split into, and would cost as much as a whole cohort. So a run has one shape, or two.

Letters: K tasks, O and I a layer's outputs and inputs, S running statistics.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import DeviceMemoryError, first_line
from core.training.loop import Arrays, Checkpointer, Chunks

# (tasks of a chunk, those that fill it up last; how many of them are real; the chunks) -> ``chunk_result``.
TrainChunk = Callable[[Sequence[int], int, Chunks], Arrays]
OUT_OF_MEMORY = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED", "can't allocate memory")


@dataclass(frozen=True, kw_only=True)
class CohortMasks:
    """Masks of K tasks.

    masks: bool [K, O, I] per layer. statistics: float32 [K, S], running statistics, if the network has any.
    """

    tasks: tuple[int, ...]
    masks: tuple[NDArray[np.bool_], ...]
    statistics: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class CohortResult(CohortMasks):
    """The result of training a cohort.

    train_loss: float32 [K], mean cross-entropy (nats) of the last 100 steps.
    train_seconds: wall time of the training loop divided by K, without compilation and testing.
    scores: float32 [K, O, I] per layer, if later tasks start from them. tasks_at_once: how many
    trained together in the end. ran_out: whether memory ran out, so that they became fewer.
    """

    train_loss: NDArray[np.float32]
    train_seconds: float
    scores: tuple[NDArray[np.float32], ...] = ()
    tasks_at_once: int = 1
    ran_out: bool = False


def in_chunks(
    tasks: Sequence[int],
    size: int,
    train_chunk: TrainChunk,
    checkpointer: Checkpointer,
    *,
    fills_up: bool = False,
) -> CohortResult:
    """Train ``tasks`` in chunks of ``size``, resuming from the last checkpoint; join the results.

    fills_up: whether smaller chunks are filled up to ``size``. Where memory runs out, the chunk and all after it
    are of half the size; raises DeviceMemoryError if not even one task fits.
    """
    chunks, ran_out = Chunks.resume(checkpointer), False
    while chunks.num_tasks < len(tasks):
        now = chunks.size_now or size  # a chunk that was in training goes on as it was
        left = tasks[chunks.num_tasks :]
        real = left[:now]
        chunks.num_left = 1 + -(-(len(left) - len(real)) // size)
        is_filled = chunks.size_now is not None or (fills_up and len(real) > 1)
        chunk = [*real, *[real[0]] * (now - len(real))] if is_filled else real
        result = _unless_memory_ends(train_chunk, chunk, len(real), chunks)
        if result is not None:
            chunks.end_chunk(result)
            continue
        chunks.now, ran_out, size = None, True, -(-len(chunk) // 2)
        _free_memory(has_one_shape=fills_up)
    return _joined(tasks, chunks.done, size, ran_out=ran_out)


def _unless_memory_ends(
    train_chunk: TrainChunk, chunk: Sequence[int], num_real: int, chunks: Chunks
) -> Arrays | None:
    """Return the result of a chunk, None if memory ran out; by then, nothing holds its tensors any more."""
    try:
        return train_chunk(chunk, num_real, chunks)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(chunk) == 1:
            raise DeviceMemoryError(
                f"training task {chunk[0]} alone takes more memory than is free ({first_line(error)[:300]}); free some, or "
                "lower training.batch_size in a new run"
            ) from error
        return None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether memory ran out, of a device or of the machine, also while a step was compiled."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def _free_memory(*, has_one_shape: bool) -> None:
    """Give memory back to the device, and forget code that was compiled for another number of tasks."""
    gc.collect()
    if has_one_shape:
        torch.compiler.reset()  # it keeps a few shapes and refuses more
    torch.cuda.empty_cache()  # does nothing where CUDA was not used


def chunk_result(
    masks: Sequence[Tensor],
    losses: NDArray[np.float32],
    seconds: float,
    **more: Sequence[Tensor],
) -> Arrays:
    """Return the result of a chunk as arrays for a checkpoint. more: statistics, scores."""
    layers = {f"mask{i}": mask.cpu().numpy() for i, mask in enumerate(masks)}
    others = {f"{name}{i}": t.cpu().numpy() for name, tensors in more.items() for i, t in enumerate(tensors)}
    return {**layers, **others, "loss": losses, "seconds": np.array(seconds)}


def _joined(
    tasks: Sequence[int], done: Sequence[Arrays], tasks_at_once: int, *, ran_out: bool
) -> CohortResult:

    def joined(name: str) -> tuple[NDArray[Any], ...]:
        num = sum(key.rstrip("0123456789") == name for key in done[0])
        return tuple(np.concatenate([chunk[f"{name}{i}"] for chunk in done]) for i in range(num))

    statistics = joined("statistics")
    return CohortResult(
        tasks=tuple(tasks),
        masks=joined("mask"),
        train_loss=np.concatenate([chunk["loss"] for chunk in done]),
        train_seconds=float(sum(chunk["seconds"] for chunk in done)) / len(tasks),
        statistics=statistics[0] if statistics else None,
        scores=joined("score"),
        tasks_at_once=tasks_at_once,
        ran_out=ran_out,
    )
