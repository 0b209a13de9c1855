"""A mask bank sharded over Ray actors, each of which maps its part of the bank file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import LostWorkerError, first_line
from core.inference.sharded_bank import Shard, ShardedBank, shard_ranges
from core.inference.superposition import MaskBank
from core.masks.bits import packed_num_bytes
from orchestrator.cluster.connect import ray, start_ray
from orchestrator.runs.run import Run
from storage.bank_file import ensure_bank, map_bank

MAX_INLINE_BYTES = 100_000  # larger arguments go through the object store


class _ShardActor:
    """Holds one shard in memory."""

    def __init__(self, run: Run, base: tuple[torch.Tensor, ...], path: Path, first: int, stop: int) -> None:
        torch.set_num_threads(1)
        tiles = map_bank(path, packed_num_bytes(run.identity.shapes))
        self._shard = Shard(MaskBank(np.ascontiguousarray(tiles[:, first:stop]), base), first)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the shard."""
        return getattr(self._shard, method)(*arguments)


@contextmanager
def ray_bank(
    run: Run, base: tuple[torch.Tensor, ...], num_shards: int, address: str | None
) -> Iterator[ShardedBank]:
    """Hold the masks of a run in ``num_shards`` actors, which are killed on exit.

    base: the fixed weights. address: of a running cluster; None starts a local one. Raises
    RunFolderError if the run has no masks; calls of the bank raise LostWorkerError if an actor is lost.
    """
    path = ensure_bank(run.store)
    num_tasks = map_bank(path, packed_num_bytes(run.identity.shapes)).shape[1]
    owns_ray = not ray.is_initialized()
    if owns_ray:
        start_ray(address, num_cpus=num_shards)
    ranges = shard_ranges(num_tasks, num_shards)
    actors = [ray.remote(_ShardActor).remote(run, base, path, first, stop) for first, stop in ranges]

    def broadcast(method: str, *arguments: Any) -> list[Any]:
        # Put large arguments once: all shards on a node then read the same pages.
        references = [
            ray.put(argument) if getattr(argument, "nbytes", 0) > MAX_INLINE_BYTES else argument
            for argument in arguments
        ]
        try:
            results: list[Any] = ray.get([actor.call.remote(method, *references) for actor in actors])
        except ray.exceptions.RayError as error:
            raise LostWorkerError(f"a shard of the masks was lost: {first_line(error)}") from error
        return results

    try:
        yield ShardedBank(base, num_tasks, broadcast)
    finally:
        for actor in actors:
            ray.kill(actor)
        if owns_ray:
            ray.shutdown()
