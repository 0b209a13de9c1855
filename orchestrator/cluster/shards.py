"""The Ray actors that hold the shards of a mask bank."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import LostWorkerError, first_line
from core.inference.sharded_bank import Shard
from core.inference.superposition import MaskBank
from core.masks.bits import packed_num_bytes
from orchestrator.cluster.connect import ray
from orchestrator.runs.run import Run
from storage.bank_file import map_bank

MAX_INLINE_BYTES = 100_000  # larger arguments go through the object store


class RayShards:
    """An actor for each range of tasks. base: the fixed weights. path: of the bank file."""

    def __init__(
        self, run: Run, base: tuple[torch.Tensor, ...], path: Path, ranges: Sequence[tuple[int, int]]
    ) -> None:
        self._actors = [
            ray.remote(_ShardActor).remote(run, base, path, first, stop) for first, stop in ranges
        ]

    def broadcast(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard. Raises LostWorkerError if an actor is lost."""
        # Put large arguments once: all shards on a node then read the same pages.
        references = [
            ray.put(argument) if getattr(argument, "nbytes", 0) > MAX_INLINE_BYTES else argument
            for argument in arguments
        ]
        try:
            results: list[Any] = ray.get([actor.call.remote(method, *references) for actor in self._actors])
        except ray.exceptions.RayError as error:
            raise LostWorkerError(
                f"lost a shard of the masks ({first_line(error)}); run the same command again"
            ) from error
        return results

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)


class _ShardActor:
    """Holds one shard in memory."""

    def __init__(self, run: Run, base: tuple[torch.Tensor, ...], path: Path, first: int, stop: int) -> None:
        torch.set_num_threads(1)
        tiles = map_bank(path, packed_num_bytes(run.identity.shapes))
        self._shard = Shard(MaskBank(np.ascontiguousarray(tiles[:, first:stop]), base), first)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the shard."""
        return getattr(self._shard, method)(*arguments)
