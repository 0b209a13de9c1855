"""``supsup export RUN --mlflow``: the masks as a pyfunc model in MLflow."""

import math
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from core.data.datasets import normalisation
from core.errors import ConfigError, RunFolderError
from core.rooms import ROOMS
from orchestrator.config.store_uri import chosen_store
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.lock import locked
from orchestrator.runs.run import Run, open_run
from orchestrator.tracking.client import connect, find_sweep, mlflow_version
from orchestrator.tracking.served import TO_INFER
from storage.layout import RunLayout
from storage.locations import Location

CODE = Path(__file__).parents[2]
# All that serving a model imports, as a test checks.
REQUIREMENTS = (
    "filelock", "numba", "numpy", "omegaconf", "pillow", "psutil", "pyarrow", "pydantic", "pyyaml", "rich", "torch"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model in MLflow. uri: for `mlflow models serve -m`. version: of the registered model."""

    uri: str
    store: str
    num_tasks: int
    name: str | None = None
    version: str | None = None


def export_model(root: Location, uri: str | None, name: str | None, alias: str | None) -> ExportedModel:
    """Log a run's masks as a model of its MLflow run; register it as a new version of ``name``, if given.

    uri: MLflow's store, None for the run's. alias: of this version, such as champion. Raises ConfigError
    or RunFolderError.
    """
    if alias is not None and name is None:
        raise ConfigError("--alias: an alias needs a registered model; add --register NAME")
    run, _ = open_run(root)
    _check(run)
    store = chosen_store(run.name, uri, run.config.tracking.uri)
    client = connect(store)
    with locked(run.layout), _logging_to(client, store, _mlflow_run(client, run, store)):
        model_uri, model_version = _log(run, name)
    if name is not None and alias is not None:
        client.set_registered_model_alias(name, alias, model_version)
    return ExportedModel(
        uri=f"models:/{name}@{alias}" if alias else f"models:/{name}/{model_version}" if name else model_uri,
        store=store,
        num_tasks=len(run.store.locate().leading),
        name=name,
        version=model_version,
    )


def _check(run: Run) -> None:
    if not run.config.can_answer:
        raise RunFolderError(
            f"{run.name}: found masks without a known task, expected masks on weights, trained with the task given"
        )
    if not run.store.locate().leading:
        again = supsup_command("run", run.layout.root, config=run.config)
        raise RunFolderError(f"{run.layout.root} has no mask of task 0; `{again}` trains it")
    if run.config.network.import_path is not None:
        raise RunFolderError(
            f"{run.layout.root}: its network is {run.config.network.import_path}, your own code, which a served model would have "
            "to import; expected a built-in network"
        )


def _mlflow_run(client: Any, run: Run, store: str) -> Any:
    """Return the sweep's run in MLflow. Raises RunFolderError."""
    experiment = client.get_experiment_by_name(run.config.name)
    found = None if experiment is None else find_sweep(client, experiment.experiment_id, run.fingerprint)
    if found is None:
        send = supsup_command("sync", run.layout.root, "--uri", store, config=run.config)
        raise RunFolderError(f"{run.name} is not in MLflow at {store}; `{send}` sends it")
    return found


@contextmanager
def _logging_to(client: Any, store: str, found: Any) -> Iterator[None]:
    """Make a finished run the active one; on exit restore its status, its end time and the process's stores."""
    tracking = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    registry = None if mlflow.get_registry_uri() == mlflow.get_tracking_uri() else mlflow.get_registry_uri()
    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)
    try:
        with mlflow.start_run(run_id=found.info.run_id, log_system_metrics=False):
            yield
    finally:
        client.set_terminated(found.info.run_id, status=found.info.status, end_time=found.info.end_time)
        mlflow.set_tracking_uri(tracking)
        mlflow.set_registry_uri(registry)
        if registry is None:
            os.environ.pop("MLFLOW_REGISTRY_URI", None)  # MLflow sets it and does not take it back


def _log(run: Run, name: str | None) -> tuple[str, str | None]:
    shape = run.config.benchmark.image_shape
    with tempfile.TemporaryDirectory(prefix="supsup-model-") as temporary:
        data, code = Path(temporary) / "run", Path(temporary) / "code"
        _copy_run(run, data)
        logged = mlflow.pyfunc.log_model(
            name="supermasks",
            loader_module="orchestrator.tracking.served",
            data_path=str(data),
            code_paths=_copy_code(code),
            pip_requirements=_requirements(),
            signature=_signature(shape),
            input_example=_example(run, shape),
            registered_model_name=name,
            metadata={
                "supsup.fingerprint": run.fingerprint,
                "supsup.num_tasks": len(run.store.locate().leading),
                "pixels": f"as the task sees them, 0 to {normalisation(run.config.benchmark)[0]:g}",
            },
        )
    return str(logged.model_uri), None if name is None else str(logged.registered_model_version)


def _copy_run(run: Run, folder: Path) -> None:
    """Copy run.json, and the mask files and tombstones of the leading tasks."""
    target, files = RunLayout(folder), run.store.locate()
    target.masks.mkdir(parents=True)
    target.run_file.write_bytes(run.layout.run_file.read_bytes())
    tombstones = [run.layout.tombstone(task).name for task in sorted(files.forgotten)]
    for name in (*files.holding(files.leading), *tombstones):
        (target.masks / name).write_bytes((files.folder / name).read_bytes())


def _copy_code(folder: Path) -> list[str]:
    """Copy our sources and return their folders."""
    for room in ROOMS:
        shutil.copytree(
            CODE / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "py.typed", "sweeps")
        )
    return [str(folder / room) for room in ROOMS]


def _requirements() -> list[str]:
    """Return the pinned requirements of the model, without build tags."""
    pinned = [f"{name}=={re.sub(r'[+].*', '', version(name))}" for name in REQUIREMENTS]
    return [f"mlflow=={mlflow_version()}", *pinned]


def _signature(shape: tuple[int, ...]) -> ModelSignature:
    images = Schema([TensorSpec(np.dtype(np.float32), (-1, *shape), name=None)])
    answers = Schema(
        [
            ColSpec(DataType.long, "task"),
            ColSpec(DataType.long, "class"),
            ColSpec(DataType.double, "confidence"),
        ]
    )
    params = ParamSchema([ParamSpec("task", DataType.long, default=TO_INFER)])
    return ModelSignature(inputs=images, outputs=answers, params=params)


def _example(run: Run, shape: tuple[int, ...]) -> Any:
    """Return one image, float32 [1, *shape]: a ramp from black to white."""
    scale, _, _ = normalisation(run.config.benchmark)
    ramp = np.linspace(0, scale, math.prod(shape), dtype=np.float32)
    return np.floor(ramp).reshape(1, *shape)


def serve_command(model: ExportedModel) -> str:
    """Return the shell command that serves a model on this machine."""
    return (
        f"MLFLOW_TRACKING_URI={shlex.quote(model.store)} mlflow models serve -m {shlex.quote(model.uri)} "
        "--env-manager local --host 127.0.0.1 --port 5001"
    )
