"""A run folder: which one a sweep means, who may work in it, and what it was made with."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from core.training.choose_engine import choose_engine
from core.data.datasets import Dataset
from core.errors import ConfigError, RunFolderError
from core.training.memory import cohort_peak_bytes, module_peak_bytes
from core.networks.base import Layer, draw_weights, layers, mask_layers, network_digest, norm_layers
from core.networks.user_code import code_digest
from core.specs.run import Engine
from orchestrator.config.sweep import RECIPE, RECIPES, SweepConfig, build_sweep, config_values, fingerprint
from orchestrator.execution.plan import auto_cohort_size
from orchestrator.runs.provenance import provenance
from storage.files import remove_temporaries
from storage.layout import RunLayout, host_name, run_folder_name
from storage.mask_store import MaskStore, StoreIdentity
from storage.locations import AnyPath, to_place
from storage.run_file import RunRecord, read_run, write_run

FOREIGN_HOST_TEMPORARY_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run may use: workers, and the bytes free on one device now."""

    num_workers: int
    gpus_per_worker: float
    free_bytes: int

    @property
    def on_gpu(self) -> bool:
        """Whether workers hold a GPU."""
        return self.gpus_per_worker > 0


@dataclass(frozen=True)
class Run:
    """A sweep's run folder, whether it exists or not. layers: of the base network's weights."""

    config: SweepConfig
    layout: RunLayout
    fingerprint: str
    layers: tuple[Layer, ...]
    identity: StoreIdentity

    @property
    def store(self) -> MaskStore:
        """The masks of the run."""
        return MaskStore(self.layout, self.identity)

    @property
    def name(self) -> str:
        """The folder's name, also that of the MLflow run."""
        return self.layout.root.name


def locate_run(config: SweepConfig, recipe: int = RECIPE) -> Run:
    """Return the run folder that ``config`` means; touches nothing."""
    spec = config.run_spec()
    inputs = spec.benchmark.channels_first
    weight_layers = layers(spec.network, inputs)
    weights = draw_weights([layer.shape for layer in weight_layers], seed=spec.seed)
    network: dict[str, Any] = {
        "kind": spec.network.kind,
        "seed": spec.seed,
        "outputs": spec.network.outputs,
        "digest": network_digest(weights),
    }
    if spec.network.is_module:
        network["norms"] = [list(norm) for norm in norm_layers(spec.network, inputs)]
    if spec.network.import_path is not None:
        network["code"] = code_digest(spec.network.import_path)
    masked = mask_layers(spec.network, inputs) if spec.network.masks_outputs else weight_layers
    identity = StoreIdentity(
        fingerprint=fingerprint(spec, recipe),
        layers=tuple((layer.name, layer.shape) for layer in masked),
        network=network,
    )
    return _run(config, identity, weight_layers)


def _run(config: SweepConfig, identity: StoreIdentity, weight_layers: tuple[Layer, ...]) -> Run:
    root = to_place(config.storage.uri) / run_folder_name(config.name, identity.fingerprint)
    return Run(config, RunLayout(root), identity.fingerprint, weight_layers, identity)


def open_run(root: AnyPath) -> tuple[Run, RunRecord]:
    """Return the run in an existing folder. Raises RunFolderError when it is none, or changed.

    A network of the user's own is not imported: its layers are those that were recorded.
    """
    layout = RunLayout(root.absolute())
    record = read_run(layout)
    try:
        config = build_sweep(record.config, str(layout.run_file))
    except ConfigError as error:
        raise RunFolderError(f"{error} (was this run made by another version of supsup?)") from error
    spec = config.run_spec()
    recipes = [recipe for recipe in RECIPES if fingerprint(spec, recipe) == record.fingerprint]
    if spec.network.import_path is not None and recipes:
        shapes = tuple(Layer(name=name, shape=shape) for name, shape in record.identity().layers)
        located = _run(config, record.identity(), shapes)
    else:
        located = locate_run(config, *recipes)
    _check_record(layout, record, located)
    return replace(located, layout=layout), record


def ensure_record(run: Run, resources: Resources, dataset: Dataset) -> RunRecord:
    """Read ``run.json``, or write it; keep what was fixed, grow ``num_tasks``.

    Raises RunFolderError where the run was made by other versions, or on other data.
    """
    wanted = run.config.benchmark.num_tasks
    if not run.layout.run_file.exists():
        record = _new_record(run, resources, dataset.digest())
        write_run(run.layout, record)
        return record
    record = read_run(run.layout)
    _check_record(run.layout, record, run)
    check_dataset(run.layout, record, dataset)
    if wanted > record.num_tasks:
        record = replace(record, num_tasks=wanted, config=config_values(run.config))
        write_run(run.layout, record)
    return record


def clean_temporaries(layout: RunLayout) -> list[Path]:
    """Remove what dead writers left half-written."""
    return remove_temporaries(layout.root, _writer_is_alive)


def _writer_is_alive(host: str, process_id: int, path: Path) -> bool:
    try:
        written_s = path.stat().st_mtime
    except FileNotFoundError:
        return True
    if host != host_name():  # its processes cannot be seen from here
        return time.time() - written_s < FOREIGN_HOST_TEMPORARY_S
    try:
        process = psutil.Process(process_id)
        started_before = process.create_time() <= written_s + 1
        return started_before and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _check_record(layout: RunLayout, record: RunRecord, run: Run) -> None:
    for key, found, expected in (
        ("fingerprint", record.fingerprint, run.fingerprint),
        ("base network digest", record.network.get("digest"), run.identity.network["digest"]),
        ("network's code", record.network.get("code"), run.identity.network.get("code")),
    ):
        if found != expected:
            raise RunFolderError(
                f"{layout.run_file}: its {key} is {str(found)[:16]}..., its config gives "
                f"{str(expected)[:16]}...; it was edited or made by other versions, so start a new run"
            )


def check_dataset(layout: RunLayout, record: RunRecord, dataset: Dataset) -> None:
    """Raise RunFolderError where a run was made on other data than ``dataset``."""
    made_on = record.provenance.get("dataset_digest")  # absent from runs of older versions
    found = dataset.digest() if made_on is not None else None
    if found != made_on:
        raise RunFolderError(
            f"{layout.run_file}: was made on {dataset.name} with digest {str(made_on)[:16]}..., the files here have "
            f"{str(found)[:16]}...; use the same files, or another storage.uri"
        )


def _new_record(run: Run, resources: Resources, dataset_digest: str) -> RunRecord:
    return RunRecord(
        config=config_values(run.config),
        fingerprint=run.fingerprint,
        num_tasks=run.config.benchmark.num_tasks,
        cohort_size=cohort_size(run, resources),
        engine=_choose_engine(run, resources),
        created_s=time.time(),
        layers=[{"name": name, "shape": list(shape)} for name, shape in run.identity.layers],
        network=run.identity.network,
        provenance=provenance() | {"dataset_digest": dataset_digest},
    )


def cohort_size(run: Run, resources: Resources) -> int:
    """Return the configured cohort size, ``auto`` resolved against free memory."""
    training = run.config.training
    if training.transfer != "none":
        return 1
    if training.cohort_size != "auto":
        return training.cohort_size
    if run.config.network.is_module and not resources.on_gpu:
        return 1  # they train one after another anyway, and each is stored when it is done
    return auto_cohort_size(
        run.config.benchmark.num_tasks,
        resources.num_workers,
        resources.free_bytes,
        peak_bytes(run, 1),
        on_gpu=resources.on_gpu,
    )


def peak_bytes(run: Run, num_tasks: int) -> int:
    """Return the bytes that training ``num_tasks`` tasks together adds to a worker."""
    masks_outputs = run.config.network.masks_outputs
    if run.config.network.is_module:
        return module_peak_bytes(run.config.run_spec(), run.layers, num_tasks)
    return cohort_peak_bytes(run.layers, run.config.training, num_tasks, masks_outputs=masks_outputs)


def _choose_engine(run: Run, resources: Resources) -> Engine:
    wanted = run.config.executor.engine
    if wanted != "auto":
        return wanted
    training = run.config.training
    network, rule = run.config.network, run.config.mask.rule
    if network.masks_outputs or network.is_module or rule == "top_k" or run.config.baseline:
        return "eager"
    weights = sum(layer.num_weights for layer in run.layers)
    flop = 6 * weights * training.batch_size * training.num_steps * run.config.benchmark.num_tasks
    return choose_engine(training, flop, on_gpu=resources.on_gpu)
