"""Runs sweeps: a YAML file in; masks, accuracy tables and an MLflow run out."""

from typing import TYPE_CHECKING

# Loading an exported model puts its own copy of the three rooms on the path. A process that has imported
# this package must keep the other two that belong to it.
import core  # noqa: F401
import storage  # noqa: F401
from core.public import lazy_names

__all__ = [
    "Answer",
    "EvaluationResult",
    "Predictor",
    "Run",
    "RunStatus",
    "SweepConfig",
    "SweepResult",
    "evaluate_run",
    "export_model",
    "export_run",
    "find_runs",
    "load_predictor",
    "load_sweep",
    "locate_run",
    "make_display",
    "make_report",
    "open_run",
    "read_images",
    "run_search",
    "run_status",
    "run_sweep",
    "sharded_predictor",
    "sync_run",
]

if TYPE_CHECKING:
    from orchestrator.cli.display import make_display
    from orchestrator.config.load import load_sweep
    from orchestrator.config.sweep import SweepConfig
    from orchestrator.evaluate import EvaluationResult, evaluate_run
    from orchestrator.export import export_run
    from orchestrator.images import read_images
    from orchestrator.predict import Answer, Predictor, load_predictor, sharded_predictor
    from orchestrator.report.build import make_report
    from orchestrator.runs.run import Run, locate_run, open_run
    from orchestrator.search.search import run_search
    from orchestrator.status import RunStatus, find_runs, run_status
    from orchestrator.sweep import SweepResult, run_sweep
    from orchestrator.tracking.model import export_model
    from orchestrator.tracking.sync import sync_run
else:
    __getattr__, __dir__ = lazy_names(__name__, __file__)
