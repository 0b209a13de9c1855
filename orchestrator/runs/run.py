"""The run folder of a sweep: locating, opening, checking."""

from dataclasses import dataclass, replace
from typing import Any

from core.errors import ConfigError, RunFolderError
from core.networks.base import Layer, draw_weights, layers, mask_layers, network_digest, norm_layers
from core.networks.user_code import code_digest
from core.printing import without_secret
from orchestrator.config.load import build_sweep
from orchestrator.config.sweep import RECIPE, RECIPES, SweepConfig, fingerprint
from storage.layout import RunLayout, run_folder_name
from storage.locations import Location, to_location
from storage.mask_store import MaskStore, StoreIdentity
from storage.run_file import RunRecord, read_run


@dataclass(frozen=True)
class Run:
    """A sweep's run folder, which need not exist. layers: of the base network's weights."""

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
        """The name of the folder and of the MLflow run."""
        return self.layout.root.name


def locate_run(config: SweepConfig, recipe: int = RECIPE) -> Run:
    """Return the run folder of a sweep; reads and writes nothing there."""
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
    norms = norm_layers(spec.network, inputs)
    if norms is not None:
        network["norms"] = [list(norm) for norm in norms]
    if spec.network.import_path is not None:
        network["code"] = code_digest(spec.network.import_path)
    identity = StoreIdentity(
        fingerprint=fingerprint(spec, recipe),
        layers=tuple((layer.name, layer.shape) for layer in mask_layers(spec.network, inputs)),
        network=network,
    )
    return _run(config, identity, weight_layers)


def _run(config: SweepConfig, identity: StoreIdentity, weight_layers: tuple[Layer, ...]) -> Run:
    root = to_location(config.storage.uri) / run_folder_name(config.name, identity.fingerprint)
    return Run(config, RunLayout(root), identity.fingerprint, weight_layers, identity)


def open_run(root: Location) -> tuple[Run, RunRecord]:
    """Return the run in an existing folder. Raises RunFolderError if it is not a run folder, or was edited.

    A network of the user's own is not imported: its layers come from the record.
    """
    layout = RunLayout(root.absolute())
    record = read_run(layout)
    try:
        config = build_sweep(_without_password(record.config), str(layout.run_file))
    except ConfigError as error:
        raise RunFolderError(f"{error} (was this run made by another version of supsup?)") from error
    spec = config.run_spec()
    recipes = [recipe for recipe in RECIPES if fingerprint(spec, recipe) == record.fingerprint]
    if spec.network.import_path is not None and recipes:
        shapes = tuple(Layer(name=name, shape=shape) for name, shape in record.identity().layers)
        located = _run(config, record.identity(), shapes)
    else:
        located = locate_run(config, *recipes)
    check_record(layout, record, located)
    return replace(located, layout=layout), record


def _without_password(config: dict[str, Any]) -> dict[str, Any]:
    """Return a stored sweep without the password in ``tracking.uri`` that earlier versions let in."""
    tracking = config.get("tracking")
    if not isinstance(tracking, dict) or not isinstance(tracking.get("uri"), str):
        return config
    return {**config, "tracking": {**tracking, "uri": without_secret(tracking["uri"])}}


def check_record(layout: RunLayout, record: RunRecord, run: Run) -> None:
    """Raise RunFolderError if a run's record does not match its config."""
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
