"""The dense base network behind the same HTTP server: what masks cost beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import uvicorn

from core.inference.superposition import forward_plain
from orchestrator.predict import Predictor
from orchestrator.runs.run import open_run
from orchestrator.serve.app import make_app
from orchestrator.serve.engine import Engine, answered, joined
from orchestrator.serve.generation import Generation, read_generation
from orchestrator.serve.limits import Limits
from orchestrator.serve.requests import ImageRequest
from orchestrator.serve.service import Service, Shortcut
from storage.locations import to_location


@dataclass
class Dense(Engine):
    """Answers every request with the base network."""

    def classify(self, requests: Sequence[ImageRequest]) -> list[bytes | Exception]:
        """Return the JSON answer to each request."""
        generation = self.current
        assert generation is not None
        whole, predictor = joined(requests), generation.predictor
        p_NO = torch.softmax(forward_plain(_inputs(predictor, whole), predictor.search.bank.base)[1], dim=1)
        best = p_NO.max(dim=1)
        rows = [
            f'{{"task":{task},"class":{label},"confidence":{p!r},"mask":"{generation.digests[task]}"}}'
            for task, label, p in zip(
                whole.tasks.tolist(), *(found.tolist() for found in best[::-1]), strict=True
            )
        ]
        return answered(generation, requests, rows)


def _inputs(predictor: Predictor, request: ImageRequest) -> torch.Tensor:
    return torch.from_numpy(request.images) * predictor.gain + predictor.offset


def main(root: str, port: int) -> None:
    """Serve the base network of a run on loopback."""
    torch.set_num_threads(1)
    run, _ = open_run(to_location(root))

    def read(before: Generation | None) -> Generation:
        return before or read_generation(run, {})

    service = Service(Dense(read, 3600, is_quick=True), Limits())
    config = uvicorn.Config(
        Shortcut(service, make_app(service)), port=port, log_level="warning", access_log=False
    )
    uvicorn.Server(config).run()
