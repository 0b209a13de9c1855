"""The HTTP interface: images in, task and class out, with the mask that said so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from core.errors import DataError, InferenceError
from core.masks.bits import packed_num_bytes
from orchestrator.serve.arrivals import TaskState
from orchestrator.serve.generation import Generation
from orchestrator.serve.requests import JSON, NPZ, UnknownTypeError, parse_labelled
from orchestrator.serve.schemas import BODY, Arrival, Bank, ClassifyAnswer, Error, InferAnswer, Tasks
from orchestrator.serve.service import CLASSIFY, INFER, RefusedError, Service

ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": Error} for code in (400, 413, 415, 429, 503, 504)}


def make_app(service: Service) -> FastAPI:
    """Return the application, which starts and ends the service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    app = FastAPI(title="supsup serve", description=__doc__, lifespan=lifespan)
    _add_errors(app)
    _add_answers(app, service)
    _add_bank(app, service)
    _add_health(app, service)
    return app


def _add_errors(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return JSONResponse({"error": str(error)}, int(error.status))

    app.add_exception_handler(RefusedError, refused)


def _add_answers(app: FastAPI, service: Service) -> None:
    def add(path: str, model: type, summary: str) -> None:
        async def answer(request: Request) -> Response:
            query = request.scope["query_string"]
            reply = await service.reply(path, dict(request.scope["headers"]), query, request.receive)
            return Response(reply.body, int(reply.status), reply.headers)

        app.post(path, response_model=model, responses=ERRORS, openapi_extra=BODY, summary=summary)(answer)

    add(CLASSIFY, ClassifyAnswer, "The class of each image, whose task is given")
    add(INFER, InferAnswer, "The task and class of each image")


def _add_bank(app: FastAPI, service: Service) -> None:
    @app.get("/v1/tasks", response_model=Tasks, summary="The tasks served")
    async def tasks(
        first: Annotated[int, Query(ge=0)] = 0, num: Annotated[int, Query(ge=1, le=10_000)] = 100
    ) -> Response:
        return JSONResponse(_tasks(service.generation(), first, num))

    @app.post("/v1/tasks", status_code=202, responses=ERRORS, summary="Learn a task from labelled images")
    async def learn(request: Request) -> Arrival:
        return await _learn(service, request)

    @app.get("/v1/tasks/{task}", responses={404: {"model": Error}}, summary="Where a task is")
    async def task_state(task: int) -> Arrival:
        return _state(service, task)

    @app.get("/v1/bank", summary="The masks served")
    async def bank() -> Bank:
        return _bank(service.generation(), service.engine.problem)


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether requests are answered")
    async def readyz() -> dict[str, str]:
        return {"generation": service.generation().name}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(files("orchestrator.serve").joinpath("page.html").read_text())


async def _learn(service: Service, request: Request) -> Arrival:
    if service.arrivals is None:
        words = "tasks are not taken here: serve a run of benchmark.kind 'files' with --accept-tasks"
        raise RefusedError(HTTPStatus.FORBIDDEN, words)
    content = await service.content(dict(request.scope["headers"]), request.receive)
    kind = request.headers.get("content-type", "")
    try:
        task = await asyncio.to_thread(service.arrivals.add, parse_labelled(content, kind))
    except UnknownTypeError:
        words = f"content-type: found {kind[:80]!r}, expected {JSON} or {NPZ}"
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, words) from None
    except (InferenceError, DataError) as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
    return Arrival(task=task, state="training")


def _state(service: Service, task: int) -> Arrival:
    generation = service.generation()
    num_served = len(generation.digests)
    found: TaskState | None
    if task in generation.facts.files.forgotten:
        found = TaskState(task=task, state="forgotten")
    elif service.arrivals is None:
        found = TaskState(task=task, state="served") if 0 <= task < num_served else None
    else:
        found = service.arrivals.state(task, num_served)
    if found is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"task: found {task}, expected one of {num_served}")
    return Arrival(task=found.task, state=found.state, reason=found.reason)


def _tasks(generation: Generation, first: int, num: int) -> dict[str, Any]:
    table = generation.facts.table.slice(first, max(0, min(num, generation.num_tasks - first)))
    rows = table.select(["task", "digest", "test_accuracy", "density"]).to_pylist()
    named = [{"task": row["task"], "mask": row.pop("digest"), **row} for row in rows]
    return {"generation": generation.name, "num_tasks": generation.num_tasks, "tasks": named}


def _bank(generation: Generation, problem: str | None) -> Bank:
    run, predictor = generation.run, generation.predictor
    return Bank(
        run=run.name,
        fingerprint=run.fingerprint,
        generation=generation.name,
        num_tasks=generation.num_tasks,
        network={key: value for key, value in run.identity.network.items() if key != "digest"},
        base_network=run.identity.network["digest"],
        image_shape=list(predictor.image_shape),
        num_classes=predictor.search.num_classes,
        scale=predictor.scale,
        mask_bytes=packed_num_bytes(run.identity.shapes),
        algorithm=predictor.search.spec.algorithm,
        objective=predictor.search.spec.objective,
        problem=problem,
    )
