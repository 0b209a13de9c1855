"""The same server on Ray Serve: replicas over machines, and masks cut into shards that they share.

``supsup serve RUN --ray FILE`` writes a config for Ray's own ``serve run`` and ``serve deploy``, which import
``build`` from here.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from ray import ObjectRef, put, serve

from core.errors import InferenceError, LostWorkerError, SupSupError, first_line
from core.inference.sharded_bank import Broadcast, Shard, ShardedBank, shard_ranges
from core.inference.superposition import MaskBank
from core.masks.bits import packed_num_bytes
from orchestrator.predict import base_tensors, predictor
from orchestrator.runs.run import Run, open_run
from orchestrator.serve.access import Guard, read_token
from orchestrator.serve.app import make_app
from orchestrator.serve.engine import Engine
from orchestrator.serve.generation import Generation, changed_facts
from orchestrator.serve.process import ServerSpec, make_engine, served_run
from orchestrator.serve.service import Service, Shortcut
from storage.bank_file import bank_path, make_bank, map_bank
from storage.files import commit_text
from storage.locations import to_location

APP, ANSWERS, SHARD = "supsup", "Answers", "Shard"
KEPT = 3  # generations that a shard holds, as replicas take up a new one at different moments
PUT_BYTES = 100_000  # larger arguments are put into the object store once, for all shards
ONGOING = 64  # requests that a replica has at hand before another is started
Key = tuple[int, str]  # number of tasks of a generation, and the joint digest of their masks


@dataclass(frozen=True, kw_only=True)
class RaySpec:
    """What Ray Serve runs. num_shards: 0 if each replica maps all masks. max_replicas: under load."""

    server: ServerSpec
    replicas: int
    max_replicas: int
    num_shards: int


def write_config(path: Path, spec: RaySpec, host: str, port: int) -> None:
    """Write the config of a deployment, YAML. The token is not in it: replicas take it from their environment."""
    scaling = {
        "min_replicas": spec.replicas,
        "max_replicas": spec.max_replicas,
        "target_ongoing_requests": ONGOING,
    }
    one_cpu = {"ray_actor_options": {"num_cpus": 1}}
    answers = {"name": ANSWERS, "autoscaling_config": scaling, "max_ongoing_requests": 4 * ONGOING, **one_cpu}
    shards = [
        {"name": f"{SHARD}{number}", "num_replicas": 1, "max_ongoing_requests": 100, **one_cpu}
        for number in range(spec.num_shards)
    ]
    config = {
        "http_options": {"host": host, "port": port},
        "proxy_location": "EveryNode",
        "applications": [
            {
                "name": APP,
                "route_prefix": "/",
                "import_path": "orchestrator.serve.on_ray:build",
                "args": {
                    "server": {**asdict(spec.server), "token": None},
                    "num_shards": spec.num_shards,
                },
                "deployments": [answers, *shards],
            }
        ],
    }
    commit_text(path, yaml.safe_dump(config, sort_keys=False))


def build(args: Mapping[str, Any]) -> Any:
    """Return the application that a config names."""
    server, num_shards = json.dumps(args["server"]), int(args["num_shards"])
    root = ServerSpec.of_json(server).root
    shards = [
        serve.deployment(_Shard).options(name=f"{SHARD}{number}").bind(root, number, num_shards)
        for number in range(num_shards)
    ]
    answers: Any = serve.deployment(serve.ingress()(_Answers))
    return answers.options(name=ANSWERS).bind(server, *shards)


class _Answers:
    """A replica: the server's application, over its own map of the masks or over shards."""

    async def __init__(self, spec: str, *shards: Any) -> None:  # type: ignore[misc]  # Ray awaits it
        import torch

        torch.set_num_threads(1)
        self._spec = ServerSpec.of_json(spec)
        self._engine = _sharded_engine(self._spec, shards) if shards else make_engine(self._spec)
        self._service = Service(self._engine, self._spec.limits)
        # Ray sends requests once this returns. Shards must not be waited for in the event loop.
        await asyncio.to_thread(self._engine.refresh)
        if self._engine.current is None:
            raise SupSupError(self._engine.problem or "no masks")

    def __serve_build_asgi_app__(self) -> Any:
        token = read_token(None, self._spec.host)
        return Guard(Shortcut(self._service, make_app(self._service)), token)


def _sharded_engine(spec: ServerSpec, shards: tuple[Any, ...]) -> Engine:
    run = served_run(spec)

    def read(before: Generation | None) -> Generation:
        return _sharded_generation(run, spec.inference, shards, before)

    return Engine(read, spec.poll_s)


def _sharded_generation(
    run: Run, inference: Mapping[str, str], shards: tuple[Any, ...], before: Generation | None
) -> Generation:
    """Return the masks of now, held by shards; ``before`` itself if they are the same."""
    facts = changed_facts(run, before)
    if facts is None:
        assert before is not None, "otherwise all is new"
        return before
    num_tasks = len(facts.digests.leading)
    key = (num_tasks, facts.digests.joint(num_tasks) or "")
    bank = ShardedBank(base_tensors(run), facts.digests.num_masks, _broadcast(shards, key))
    return Generation(run=run, facts=facts, predictor=predictor(run, bank, None, inference))


def _broadcast(shards: tuple[Any, ...], key: Key) -> Broadcast:
    """Return a function that calls a method of every shard of a generation."""

    def broadcast(method: str, *arguments: Any) -> list[Any]:
        sent: list[ObjectRef[Any] | Any] = [
            put(argument) if getattr(argument, "nbytes", 0) > PUT_BYTES else argument
            for argument in arguments
        ]
        try:
            responses = [shard.call.remote(key, method, *sent) for shard in shards]
            found = [response.result() for response in responses]
        except Exception as error:  # Ray's own, of a shard that was lost or knows no such masks
            raise LostWorkerError(f"a shard of the masks did not answer ({first_line(error)})") from error
        return [one for one in found if one is not None]

    return broadcast


class _Shard:
    """Holds part ``number`` of ``num_shards`` of the masks, of the last few generations."""

    def __init__(self, root: str, number: int, num_shards: int) -> None:
        import torch

        torch.set_num_threads(1)
        self._run, _ = open_run(to_location(root))
        self._base, self._number, self._num_shards = base_tensors(self._run), number, num_shards
        self._shards: dict[Key, Shard | None] = {}

    def call(self, key: Key, method: str, *arguments: Any) -> Any:
        """Call a method of a generation's shard; None if it holds no masks."""
        key = (key[0], key[1])
        if key not in self._shards:
            self._shards[key] = self._made(key)
            for old in list(self._shards)[:-KEPT]:
                del self._shards[old]
        shard = self._shards[key]
        return None if shard is None else getattr(shard, method)(*arguments)

    def _made(self, key: Key) -> Shard | None:
        """Return the shard of the first tasks' masks, which must have the joint digest that ``key`` says."""
        num_tasks, digest = key
        facts = self._run.store.facts()
        if facts.digests.joint(num_tasks) != digest:
            raise InferenceError(
                f"{self._run.name}: the masks of its first {num_tasks} tasks are not those of the replica"
            )
        path = bank_path(self._run.store, facts)
        make_bank(self._run.store, path, facts)
        tiles = map_bank(path, packed_num_bytes(self._run.identity.shapes))
        ranges = shard_ranges(len(facts.files.among(num_tasks)), self._num_shards)
        if self._number >= len(ranges):
            return None
        first, stop = ranges[self._number]
        return Shard(MaskBank(tiles[:, first:stop], self._base), first)
