"""The worker's half of each kind of work. Needs torch; reads no sweep file.

A new kind of work is an ``orchestrator.worker.base.Handler`` in a file here, a line below, and a
stage in ``orchestrator.stages``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from orchestrator.worker.base import Handler, WorkerContext

HANDLERS = {  # kind of job -> module, class; imported at the first job of the kind
    "train": ("supermasks", "Cohorts"),
    "evaluate": ("given", "Given"),
    "infer": ("inferred", "Inferred"),
    "recover": ("recovered", "Recovered"),
    "stream": ("stream", "Stream"),
    "baseline": ("baseline", "Baseline"),
}


def make_handler(kind: str, context: "WorkerContext") -> "Handler":
    """Return the handler of a kind of job."""
    module, name = HANDLERS[kind]
    return cast("Handler", getattr(import_module(f"{__name__}.{module}"), name)(context))
