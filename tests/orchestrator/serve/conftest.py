"""A served run: four tasks, with an application that is asked without a socket."""

import asyncio
import io
import json
from dataclasses import dataclass

import numpy as np
import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run, open_run
from orchestrator.serve.access import Guard
from orchestrator.serve.app import make_app
from orchestrator.serve.engine import Engine
from orchestrator.serve.generation import read_generation
from orchestrator.serve.limits import Limits
from orchestrator.serve.service import Service, Shortcut
from orchestrator.sweep import run_sweep
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """Asks an ASGI application."""

    def __init__(self, app) -> None:
        self._app = app

    async def ask(self, method, target, body=b"", headers=None, chunks=1, *, is_whole=True) -> Reply:
        path, _, query = target.partition("?")
        given = {"host": "127.0.0.1:8650", **(headers or {})}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8650),
        }  # fmt: skip
        size = max(1, -(-len(body) // chunks))
        parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
        sent = []

        async def receive():
            if not parts:
                await asyncio.Event().wait()  # nothing more comes
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts) or not is_whole}

        async def send(message):
            sent.append(message)

        await self._app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))

    def get(self, target, **headers):
        return self.ask("GET", target, headers=headers)

    def post(self, target, body, kind, **headers):
        return self.ask("POST", target, body, {"content-type": kind, **headers})


def train(folder, num_tasks):
    path = folder / "sweep.yaml"
    path.write_text(sweep_text(folder / "runs", tracking="{uri: null}"))
    config = load_sweep(path, [f"benchmark.num_tasks={num_tasks}", "executor.kind=inline"])
    run_sweep(config, None, Recorder())
    return open_run(locate_run(config).layout.root)[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("served"), 4)


@pytest.fixture(scope="module")
def images(run):
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (6, *run.config.benchmark.image_shape), dtype=np.uint8)


def served(run, limits=None, token=None, *, is_quick=True):
    """Return a service whose masks are loaded, and a client of it."""
    engine = Engine(lambda before: read_generation(run, {}, before), 3600, is_quick=is_quick)
    service = Service(engine, limits or Limits())
    engine.refresh()
    return service, Client(Guard(Shortcut(service, make_app(service)), token))


def asking(run, talk, **options):
    """Run ``talk(client)`` while the service is up; return what it returns."""

    async def main():
        service, client = served(run, **options)
        service.start()
        try:
            return await talk(client)
        finally:
            service.close()

    return asyncio.run(main())
