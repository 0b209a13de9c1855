"""What is asked over HTTP, and what comes back: the predictor's answers, each with the mask that gave it."""

import asyncio
import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from core.errors import LostWorkerError
from core.masks.bits import joint_digest
from orchestrator.predict import load_predictor
from orchestrator.serve.limits import Limits
from tests.orchestrator.serve.conftest import asking, npy, npz, served

NPY, NPZ, JSON, PNG = "application/x-npy", "application/x-npz", "application/json", "image/png"


def as_rows(found):
    return [(one["task"], one["class"], one["confidence"]) for one in found]


@pytest.mark.parametrize("is_quick", [True, False])
def test_given_tasks_get_the_predictors_classes_whatever_the_form(run, images, is_quick):
    tasks = [3, 0, 1, 1, 2, 0]
    expected = [
        (one.task, one.label, one.confidence)
        for one in load_predictor(run.layout.root).classify(images, tasks)
    ]

    async def talk(client):
        query = ",".join(map(str, tasks))
        return [
            await client.post(f"/v1/classify?tasks={query}", npy(images), NPY),
            await client.post("/v1/classify", npz(images=images, tasks=np.array(tasks)), NPZ),
            await client.post(
                "/v1/classify", json.dumps({"images": images.tolist(), "tasks": tasks}).encode(), JSON
            ),
        ]

    for reply in asking(run, talk, is_quick=is_quick):
        assert reply.status == 200
        assert as_rows(reply.json["answers"]) == expected


def test_an_answer_names_run_generation_and_the_mask_that_gave_it(run, images):
    async def talk(client):
        return (
            await client.post("/v1/infer", npy(images), NPY),
            await client.get("/v1/tasks"),
            await client.get("/v1/bank"),
        )

    reply, tasks, bank = (one.json for one in asking(run, talk))
    stored = {mask.task: hashlib.sha256(mask.bits).hexdigest() for mask in run.store.iterate(range(4))}
    assert {one["task"]: one["mask"] for one in tasks["tasks"]} == stored
    assert reply["run"] == bank["run"] == run.name
    assert reply["generation"] == bank["generation"] == joint_digest([stored[task] for task in range(4)])[:16]
    expected = load_predictor(run.layout.root).infer(images)
    for found, one in zip(reply["answers"], expected, strict=True):
        assert (found["task"], found["class"], found["mask"]) == (one.task, one.label, stored[one.task])
        assert as_rows(found["best"]) == [(best.task, best.label, best.confidence) for best in one.best]
        assert found["gap"] == one.best[1].value - one.best[0].value


def test_a_png_is_read_in_the_units_of_the_data(run, images):
    stream = io.BytesIO()
    Image.fromarray(images[0]).save(stream, format="PNG")

    async def talk(client):
        return (
            await client.post("/v1/classify?task=2", stream.getvalue(), PNG),
            await client.post("/v1/classify?task=2", npy(images[0]), NPY),
            await client.post("/v1/classify?task=2", npy(images[0] / 255), NPY),
        )

    png, whole, fractions = (reply.json["answers"] for reply in asking(run, talk))
    assert png == whole
    assert [one["class"] for one in fractions] == [one["class"] for one in whole]


def growing_archive():
    stream = io.BytesIO()
    np.savez_compressed(stream, images=np.zeros((300, 1000, 1000), dtype=np.uint8))
    return stream.getvalue()


def large_png():
    stream = io.BytesIO()
    Image.new("L", (3000, 3000)).save(stream, format="PNG")
    return stream.getvalue()


WRONG = {
    "no such task": ("/v1/classify?task=4", npy(np.zeros((1, 6, 6))), NPY, 400, "from 0 to 3"),
    "negative task": ("/v1/classify?task=-1", npy(np.zeros((1, 6, 6))), NPY, 400, "found -1"),
    "task in words": ("/v1/classify?task=two", npy(np.zeros((1, 6, 6))), NPY, 400, "numbers such as 3"),
    "no task": ("/v1/classify", npy(np.zeros((1, 6, 6))), NPY, 400, "missing"),
    "too few tasks": ("/v1/classify?tasks=1,2", npy(np.zeros((3, 6, 6))), NPY, 400, "or 3"),
    "other size": ("/v1/infer", npy(np.zeros((1, 5, 5))), NPY, 400, "1 x 5 x 5"),
    "pixels beyond": ("/v1/infer", npy(np.full((1, 6, 6), 999)), NPY, 400, "of the range"),
    "not a number": ("/v1/infer", npy(np.full((1, 6, 6), np.nan)), NPY, 400, "not finite"),
    "objects": ("/v1/infer", npy(np.array([None])), NPY, 400, "objects"),
    "a header alone": ("/v1/infer", npy(np.zeros((1, 6, 6)))[:128], NPY, 400, "cannot be read"),
    "nonsense": ("/v1/infer", b"nonsense", JSON, 400, "cannot be read"),
    "ragged": ("/v1/infer", b'{"images": [[1], [1, 2]]}', JSON, 400, "different lengths"),
    "unknown key": ("/v1/infer", b'{"images": [], "pixels": 1}', JSON, 400, "pixels"),
    "an archive that grows": ("/v1/infer", growing_archive(), NPZ, 400, "when unpacked"),
    "a large PNG": ("/v1/infer", large_png(), PNG, 400, "3,000 x 3,000"),
    "no PNG": ("/v1/infer", b"nonsense", PNG, 400, "not a PNG"),
    "other type": ("/v1/infer", b"", "text/plain", 415, "text/plain"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_with_what_was_found(run, name):
    target, body, kind, status, words = WRONG[name]
    reply = asking(run, lambda client: client.post(target, body, kind))
    assert (reply.status, words in reply.json["error"]) == (status, True), reply.json


def test_large_requests_are_refused_before_they_are_read(run, images):
    limits = Limits(body_bytes=1000, request_images=4)

    async def talk(client):
        return (
            await client.post("/v1/infer", b"", NPY, **{"content-length": "1001"}),
            await client.ask("POST", "/v1/infer", bytes(1001), {"content-type": NPY}, chunks=3),
            await client.post("/v1/infer", npy(images[:5]), NPY),
            await client.post("/v1/infer", npy(images[:4]), NPY),
        )

    assert [reply.status for reply in asking(run, talk, limits=limits)] == [413, 413, 413, 200]


def test_a_full_queue_says_when_to_come_back(run, images):
    async def talk(client):
        asked = [client.post("/v1/infer", npy(images), NPY) for _ in range(40)]
        return await asyncio.gather(*asked)

    replies = asking(run, talk, limits=Limits(queue_images=30, batch_images=6))
    by_status = {reply.status: reply for reply in replies}
    assert by_status.keys() == {200, 429}
    assert by_status[429].headers["retry-after"] == "1"


def test_slow_bodies_are_given_up(run):
    def asked(*, is_whole):
        return lambda client: client.ask(
            "POST", "/v1/infer", b"ab", {"content-type": NPY}, chunks=2, is_whole=is_whole
        )

    limits = Limits(timeout_s=0.2)
    assert asking(run, asked(is_whole=True), limits=limits).status == 400
    assert asking(run, asked(is_whole=False), limits=limits).status == 504


def test_a_lost_shard_is_no_fault_of_the_request(run, images, monkeypatch):
    def lost(*_):
        raise LostWorkerError("lost a shard")

    async def talk(client):
        before = await client.post("/v1/classify?task=1", npy(images), NPY)
        monkeypatch.setattr("orchestrator.predict.Predictor.classes", lost)
        return before, await client.post("/v1/classify?task=1", npy(images), NPY)

    before, after = asking(run, talk)
    assert (before.status, after.status, after.json["error"]) == (200, 503, "lost a shard")


def test_one_wrong_request_does_not_spoil_the_batch(run, images):
    service, _ = served(run)
    good = service._asked("/v1/classify", {b"content-type": NPY.encode()}, b"task=1", npy(images))
    wrong = type(good)(images.reshape(6, -1).astype(np.float32), np.full(6, 9))
    answers = service.engine.classify([good, wrong, good])
    assert [type(one).__name__ for one in answers] == ["bytes", "InferenceError", "bytes"]
    assert answers[0] == answers[2]


def test_pages_for_people_and_machines(run):
    async def talk(client):
        await client.post("/v1/classify?task=0", npy(np.zeros((1, 6, 6))), NPY)
        return [await client.get(path) for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")]

    page, health, ready, metrics, api = asking(run, talk)
    assert [one.status for one in (page, health, ready, metrics, api)] == [200] * 5
    assert b"<title>supsup serve</title>" in page.body
    assert b'supsup_requests_total{path="/v1/classify",status="200"} 1.0' in metrics.body
    assert b"supsup_tasks 4.0" in metrics.body
    assert {"/v1/classify", "/v1/infer", "/v1/tasks", "/v1/bank"} <= api.json["paths"].keys()


def test_tasks_are_listed_in_pages(run):
    async def talk(client):
        return [(await client.get(f"/v1/tasks?first={first}&num=2")).json for first in (0, 3, 4)]

    pages = asking(run, talk)
    assert [[one["task"] for one in page["tasks"]] for page in pages] == [[0, 1], [3], []]
    assert {page["num_tasks"] for page in pages} == {4}
