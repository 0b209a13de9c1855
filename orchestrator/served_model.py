"""The old name of ``orchestrator.tracking.served``: models logged in MLflow before the move ask for it."""

from orchestrator.tracking.served import ServedModel, _load_pyfunc

__all__ = ["ServedModel", "_load_pyfunc"]
