"""The HTTP interface: images in, task and class out, with the mask that said so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from core.masks.bits import packed_num_bytes
from orchestrator.serve.generation import Generation
from orchestrator.serve.schemas import BODY, Bank, ClassifyAnswer, Error, InferAnswer, Tasks
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
