"""A mask bank sharded over Ray actors, each of which maps its part of the bank file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from core.inference.sharded_bank import Broadcast, ShardedBank, shard_ranges
from core.masks.bits import packed_num_bytes
from orchestrator.cluster.launch import ray_is_there
from orchestrator.cluster.local_ray import LocalRay
from orchestrator.runs.run import Run
from storage.bank_file import ensure_bank, map_bank


@contextmanager
def ray_bank(
    run: Run, base: tuple[Tensor, ...], num_shards: int, address: str | None
) -> Iterator[ShardedBank]:
    """Hold the masks of a run in ``num_shards`` actors, which are killed on exit.

    base: the fixed weights. address: of a running cluster; None starts a local one. Raises
    RunFolderError if the run has no masks; calls of the bank raise LostWorkerError if an actor is lost,
    SupSupError if Ray is.
    """
    if ray_is_there():
        path, num_tasks = _bank_file(run)
        shards = _make_shards(run, base, path, shard_ranges(num_tasks, num_shards))
        try:
            yield ShardedBank(base, num_tasks, shards.broadcast)
        finally:
            shards.close()
        return
    with LocalRay(num_cpus=num_shards, num_threads=1, address=address) as local:
        path, num_tasks = _bank_file(run)
        local.call("hold", _make_shards, run, base, path, shard_ranges(num_tasks, num_shards))
        yield ShardedBank(base, num_tasks, _broadcast_by(local))


def _bank_file(run: Run) -> tuple[Path, int]:
    path = ensure_bank(run.store)
    return path, map_bank(path, packed_num_bytes(run.identity.shapes)).shape[1]


def _make_shards(*arguments: Any) -> Any:
    from orchestrator.cluster.shards import RayShards  # imports ray: only in the process that drives it

    return RayShards(*arguments)


def _broadcast_by(local: LocalRay) -> Broadcast:
    def broadcast(method: str, *arguments: Any) -> list[Any]:
        results: list[Any] = local.call("ask", "broadcast", method, *arguments)
        return results

    return broadcast
