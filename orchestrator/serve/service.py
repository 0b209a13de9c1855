"""Answers to ``/v1/classify`` and ``/v1/infer``: from the bytes of a request to those of a reply."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from core.errors import InferenceError, SupSupError, plural
from orchestrator.serve.arrivals import Arrivals
from orchestrator.serve.batcher import Batcher, QueueFullError
from orchestrator.serve.engine import Engine
from orchestrator.serve.generation import Generation
from orchestrator.serve.limits import Limits
from orchestrator.serve.metrics import Metrics, make_metrics
from orchestrator.serve.requests import PARSERS, PNG, ImageRequest, UnknownTypeError, parse_request

CLASSIFY, INFER = "/v1/classify", "/v1/infer"
RETRY_S = 1
INLINE_IMAGES = 64  # about 2 ms of the event loop
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = Mapping[bytes, bytes]


class RefusedError(Exception):
    """A request that is answered with an error. status: of HTTP."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass(frozen=True)
class Reply:
    """What is sent back: JSON."""

    status: int
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers, in lower case."""
        own = {"content-type": "application/json", "content-length": str(len(self.body))}
        is_busy = self.status == HTTPStatus.TOO_MANY_REQUESTS
        return {**own, "retry-after": str(RETRY_S)} if is_busy else own


@dataclass(frozen=True)
class Service:
    """An engine, with its limits, counters and queues. arrivals: of tasks to learn, None if none are taken."""

    engine: Engine
    limits: Limits
    arrivals: Arrivals | None = None
    metrics: Metrics = field(default_factory=make_metrics)
    batchers: dict[str, Batcher[ImageRequest, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine.on_change = self.metrics.took_up

    def start(self) -> None:
        """Start the engine, and a queue for each kind of request."""
        self.engine.start()
        if self.arrivals is not None:
            self.arrivals.start()
        for path, work, inline in (
            (CLASSIFY, self.engine.classify, INLINE_IMAGES),
            (INFER, self.engine.infer, 0),
        ):
            self.batchers[path] = Batcher(
                self.metrics.counted(path, work),
                most_images=self.limits.batch_images,
                queue_images=self.limits.queue_images,
                inline_images=inline if self.engine.is_quick else 0,
            )

    def close(self) -> None:
        """End what ``start`` started."""
        for batcher in self.batchers.values():
            batcher.close()
        if self.arrivals is not None:
            self.arrivals.close()
        self.engine.close()

    def generation(self) -> Generation:
        """Return the masks to answer with. Raises RefusedError while they are loaded."""
        found = self.engine.current
        if found is None:
            words = self.engine.problem or "the masks are being loaded"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, words)
        return found

    async def reply(self, path: str, headers: Headers, query: bytes, receive: Receive) -> Reply:
        """Return the reply to a request to ``CLASSIFY`` or ``INFER``."""
        started_s = time.perf_counter()
        try:
            content = await self.content(headers, receive)
            asked = self._asked(path, headers, query, content)
            reply = Reply(HTTPStatus.OK, await self._answer(path, asked))
            self.metrics.answered(path, len(asked))
        except (RefusedError, SupSupError) as error:
            reply = Reply(_status(error), json.dumps({"error": str(error)}).encode())
        self.metrics.replied(path, reply.status, time.perf_counter() - started_s)
        return reply

    async def _answer(self, path: str, asked: ImageRequest) -> bytes:
        answer = self.batchers[path].submit(asked, len(asked))
        try:
            return await asyncio.wait_for(answer, self.limits.timeout_s)
        except QueueFullError:
            words = "too many images wait; try again later"
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, words) from None
        except TimeoutError:
            raise self._late() from None

    def _late(self) -> RefusedError:
        return RefusedError(HTTPStatus.GATEWAY_TIMEOUT, f"no answer within {self.limits.timeout_s:g} s")

    async def content(self, headers: Headers, receive: Receive) -> bytes:
        """Return the body of a request, of which most have all in the first message. Raises RefusedError."""
        if int(headers.get(b"content-length") or 0) > self.limits.body_bytes:
            raise self._too_large()
        message = await receive()
        if not message.get("more_body"):
            return bytes(message.get("body", b""))
        try:
            return await asyncio.wait_for(self._rest(message, receive), self.limits.timeout_s)
        except TimeoutError:
            raise self._late() from None

    async def _rest(self, message: MutableMapping[str, Any], receive: Receive) -> bytes:
        content = bytearray(message.get("body", b""))
        while message.get("more_body"):
            message = await receive()
            content += message.get("body", b"")
            if len(content) > self.limits.body_bytes:
                raise self._too_large()
        return bytes(content)

    def _too_large(self) -> RefusedError:
        words = f"body: more than {self.limits.body_bytes:,} bytes"
        return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)

    def _asked(self, path: str, headers: Headers, query: bytes, content: bytes) -> ImageRequest:
        predictor = self.generation().predictor
        kind = headers.get(b"content-type", b"application/json").decode("latin-1")
        named = parse_qs(query.decode("latin-1")) if query else {}
        tasks = next(iter(named.get("tasks", named.get("task", []))), None)
        try:
            asked = parse_request(content, kind, tasks, predictor.image_shape, predictor.scale)
        except UnknownTypeError:
            words = f"content-type: found {kind[:80]!r}, expected one of {', '.join([*PARSERS, PNG])}"
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, words) from None
        if len(asked) > self.limits.request_images:
            words = (
                f"images: found {plural(len(asked), 'image')}, at most {self.limits.request_images} at once"
            )
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
        if path == INFER:
            return ImageRequest(asked.images, None)
        if asked.tasks is None:
            raise InferenceError(f"tasks: missing, expected one for each image, or POST to {INFER}")
        predictor.given(asked.tasks, len(asked))
        return asked


def _status(error: RefusedError | SupSupError) -> HTTPStatus:
    if isinstance(error, RefusedError):
        return error.status
    is_theirs = isinstance(error, InferenceError)
    return HTTPStatus.BAD_REQUEST if is_theirs else HTTPStatus.SERVICE_UNAVAILABLE  # such as a lost shard


@dataclass(frozen=True)
class Shortcut:
    """An ASGI application: answers come straight from ``service``, whatever else is asked from ``app``.

    FastAPI's routing takes longer than an answer.
    """

    service: Service
    app: Any

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Any) -> None:
        """Answer a request."""
        path = scope.get("path")
        if scope["type"] != "http" or scope["method"] != "POST" or path not in self.service.batchers:
            await self.app(scope, receive, send)
            return
        reply = await self.service.reply(path, dict(scope["headers"]), scope["query_string"], receive)
        headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
