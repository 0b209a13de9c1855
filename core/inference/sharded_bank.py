"""A bank split by task into shards, each held by another process or machine.

The uniform superposition is the sum of the shards' counts; the gradient is sent to all shards, each
answers for its own masks, and one small reduction picks the best. A mask's sum depends on its own
bits alone and ties go to the lower task, so the answer is that of a single process, bit for bit, for
any number of shards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.inference.superposition import Activations, MaskBank, Tasks, stacked_weights, top_k_lowest
from core.masks.packed_sums import Planes

# Calls a method of every shard with the same arguments; returns the results in order of task.
Broadcast = Callable[..., list[Any]]


@dataclass(frozen=True)
class Shard:
    """The masks from ``first`` on. Takes tasks of the whole bank and answers for those it holds."""

    bank: MaskBank
    first: int

    def counts(self, tasks: Tasks) -> Planes:
        """See ``Bank.counts``, over its own tasks."""
        return self.bank.counts(self._own(tasks))

    def sums(self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Bank.sums``, over its own tasks."""
        return self.bank.sums(planes, self._own(tasks), chosen)

    def top_k_lowest(
        self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64], num: int
    ) -> tuple[NDArray[np.float64], Tasks]:
        """See ``Bank.top_k_lowest``, over its own tasks."""
        values, own = self.bank.top_k_lowest(planes, self._own(tasks), chosen, num)
        return values, own + self.first

    def products(self, activations: Activations, tasks: Tasks) -> NDArray[np.float64]:
        """See ``Bank.products``, over its own tasks."""
        return self.bank.products(activations, self._own(tasks))

    def packed(self, tasks: Tasks) -> NDArray[np.uint8]:
        """See ``Bank.packed``, over its own tasks."""
        return self.bank.packed(self._own(tasks))

    def _own(self, tasks: Tasks) -> Tasks:
        return tasks[(tasks >= self.first) & (tasks < self.first + self.bank.num_tasks)] - self.first


@dataclass(frozen=True)
class ShardedBank:
    """A ``Bank`` over shards reached through ``broadcast``. base: the fixed weights, [O, I] per layer."""

    base: tuple[Tensor, ...]
    num_tasks: int
    broadcast: Broadcast
    shared_read_images: ClassVar[int] = MaskBank.shared_read_images
    tasks_at_once: ClassVar[int] = 1

    def counts(self, tasks: Tasks) -> Planes:
        """See ``Bank``."""
        return reduce(np.add, self.broadcast("counts", tasks))

    def sums(self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Bank``."""
        return np.concatenate(self.broadcast("sums", planes, tasks, chosen))

    def top_k_lowest(
        self, planes: Planes, tasks: Tasks, chosen: NDArray[np.int64], num: int
    ) -> tuple[NDArray[np.float64], Tasks]:
        """See ``Bank``; each shard sends its own best only."""
        best = self.broadcast("top_k_lowest", planes, tasks, chosen, num)
        return top_k_lowest(np.concatenate([b[0] for b in best]), np.concatenate([b[1] for b in best]), num)

    def products(self, activations: Activations, tasks: Tasks) -> NDArray[np.float64]:
        """See ``Bank``."""
        return np.concatenate(self.broadcast("products", activations, tasks), axis=1)

    def weights(self, tasks: Tasks) -> list[Tensor]:
        """See ``Bank``."""
        return stacked_weights(self.packed(tasks), self.base)

    def rough_bank(self, num_tasks: int) -> None:
        """See ``Bank``; the values of many images are too many to send."""

    def packed(self, tasks: Tasks) -> NDArray[np.uint8]:
        """See ``Bank``."""
        return np.concatenate(self.broadcast("packed", tasks))


def shard_ranges(num_tasks: int, num_shards: int) -> list[tuple[int, int]]:
    """Split 0 .. num_tasks - 1 into at most ``num_shards`` ranges (first, stop) of nearly equal size."""
    edges = [num_tasks * number // num_shards for number in range(num_shards + 1)]
    return [(first, stop) for first, stop in pairwise(edges) if first < stop]


def local_shards(bank: MaskBank, num_shards: int) -> ShardedBank:
    """Return ``bank`` split into shards within this process, which act as those of a cluster do."""
    shards = [
        Shard(MaskBank(np.ascontiguousarray(bank.tiles[:, first:stop]), bank.base, bank.num_threads), first)
        for first, stop in shard_ranges(bank.num_tasks, num_shards)
    ]
    return ShardedBank(
        bank.base, bank.num_tasks, lambda method, *args: [getattr(shard, method)(*args) for shard in shards]
    )
