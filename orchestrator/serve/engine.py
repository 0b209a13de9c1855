"""Answers requests with the masks of a run, and takes up the masks that are stored meanwhile."""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.errors import InferenceError, first_line, plural
from core.masks.packed_tables import LANES
from orchestrator.predict import Answer, Candidate
from orchestrator.serve.generation import Generation
from orchestrator.serve.requests import ImageRequest

LOG = logging.getLogger("supsup.serve")
Read = Callable[[Generation | None], Generation]  # the masks of now; the argument itself if nothing changed


@dataclass
class Engine:
    """Holds the current generation. Each batch is answered by one, whatever is loaded meanwhile.

    read: returns the masks of now. is_quick: whether an image takes less than a tenth of a millisecond. problem: why
    the last look at the run failed, None if it did not.
    """

    read: Read
    poll_s: float
    is_quick: bool = False
    on_change: Callable[[Generation], None] = lambda _generation: None
    problem: str | None = None
    _current: Generation | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def current(self) -> Generation | None:
        """The masks to answer with; None until they are loaded."""
        return self._current

    def start(self) -> None:
        """Load masks, and look for new ones, in a thread."""
        self._thread = threading.Thread(target=self._watch, name="generations", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self.refresh()
            self._stopped.wait(self.poll_s)

    def refresh(self) -> None:
        """Look at the run once. A run that cannot be read leaves the masks as they are."""
        started_s = time.perf_counter()
        try:
            found = self.read(self._current)
            if found is not self._current:
                _warm(found)
        # Whatever it is, the masks that are there go on answering, and the next look may succeed.
        except Exception as error:
            if self.problem != (words := first_line(error)):
                LOG.warning("masks stay as they are: %s", words)
            self.problem = words
            return
        self.problem = None
        if found is not self._current:
            self._current = found
            self.on_change(found)
            took_s = time.perf_counter() - started_s
            LOG.info("generation %s: %s, %.1f s", found.name, plural(found.num_tasks, "task"), took_s)

    def classify(self, requests: Sequence[ImageRequest]) -> list[bytes | Exception]:
        """Return the JSON answer to each request, whose tasks are given."""
        return self._answer(requests, _classified)

    def infer(self, requests: Sequence[ImageRequest]) -> list[bytes | Exception]:
        """Return the JSON answer to each request, inferring the task of each image."""
        return self._answer(requests, _inferred)

    def _answer(
        self,
        requests: Sequence[ImageRequest],
        rows_of: Callable[[Generation, ImageRequest], list[str]],
    ) -> list[bytes | Exception]:
        generation = self._current
        assert generation is not None, "no request is taken before"
        try:
            rows = rows_of(generation, joined(requests))
        except InferenceError as error:
            if len(requests) == 1:
                return [error]
            # One of them is wrong: the others get their answers.
            return [answer for one in requests for answer in self._answer([one], rows_of)]
        return answered(generation, requests, rows)


def answered(
    generation: Generation, requests: Sequence[ImageRequest], rows: Sequence[str]
) -> list[bytes | Exception]:
    """Return the answer to each request. rows: the JSON of each image in order."""
    head = f'{{"run":{json.dumps(generation.run.name)},"generation":"{generation.name}","answers":['
    stops = np.cumsum([len(one) for one in requests]).tolist()
    starts = [0, *stops[:-1]]
    return [
        f"{head}{','.join(rows[start:stop])}]}}".encode() for start, stop in zip(starts, stops, strict=True)
    ]


def _warm(generation: Generation) -> None:
    """Answer one image and a few, so that what is compiled or filled at first use is ready."""
    blank = np.zeros((LANES, *generation.predictor.image_shape), dtype=np.float32)
    generation.predictor.infer(blank[:1])
    generation.predictor.infer(blank)
    generation.predictor.classify(blank, generation.facts.files.leading[0])


def joined(requests: Sequence[ImageRequest]) -> ImageRequest:
    """Return one request for all images. Either all or none of the requests name tasks."""
    images = np.concatenate([request.images for request in requests])
    given = [request.tasks for request in requests if request.tasks is not None]
    return ImageRequest(images, np.concatenate(given) if given else None)


def _classified(generation: Generation, request: ImageRequest) -> list[str]:
    assert request.tasks is not None, "asked for where the tasks are given"
    digests, tasks = generation.digests, generation.predictor.given(request.tasks, len(request))
    labels, confidences = generation.predictor.classes(request.images, tasks)
    # Written out, which takes a quarter of json's time: whole numbers, finite floats and hex digits are JSON as they are.
    return [
        f'{{"task":{task},"class":{label},"confidence":{confidence!r},"mask":"{digests[task]}"}}'
        for task, label, confidence in zip(tasks.tolist(), labels, confidences, strict=True)
    ]


def _inferred(generation: Generation, request: ImageRequest) -> list[str]:
    digests = generation.digests
    return [json.dumps(_searched(answer, digests)) for answer in generation.predictor.infer(request.images)]


def _searched(answer: Answer, digests: Sequence[str]) -> dict[str, Any]:
    best = [{**_row(one, digests), "value": one.value} for one in answer.best]
    gap = best[1]["value"] - best[0]["value"] if len(best) > 1 else None
    return {**_row(answer.best[0], digests), "gap": gap, "best": best}


def _row(one: Candidate, digests: Sequence[str]) -> dict[str, Any]:
    return {"task": one.task, "class": one.label, "confidence": one.confidence, "mask": digests[one.task]}
