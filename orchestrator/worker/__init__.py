"""The worker's half of each kind of work. Needs torch; reads no sweep file.

A new kind of work is a file here with a class like ``orchestrator.worker.base.Handler``, a line
below, and its other half in ``orchestrator.stages``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from orchestrator.worker.base import Handler, WorkerContext

HANDLERS = {  # kind of job to module and class; imported when a first job of its kind comes
    "train": ("supermasks", "Cohorts"),
    "evaluate": ("given", "Given"),
    "infer": ("inferred", "Inferred"),
    "recover": ("recovered", "Recovered"),
    "stream": ("stream", "Stream"),
    "baseline": ("baseline", "Baseline"),
}


def make_handler(kind: str, context: "WorkerContext") -> "Handler":
    """Return what does jobs of this kind."""
    module, name = HANDLERS[kind]
    return cast("Handler", getattr(import_module(f"{__name__}.{module}"), name)(context))
