"""The run folder of a sweep: locating, opening, checking."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.errors import ConfigError, RunFolderError
from core.networks.base import Layer, draw_weights, layers, mask_layers, network_digest, norm_layers
from core.own_code.files import code_digest, is_code
from core.own_code.permission import ANY_CODE, permission, require_allowed
from core.printing import without_secret
from core.specs.own_code import OwnCode
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
    """Return the run folder of a sweep; writes nothing there.

    A network of the user's own is imported and called. Raises ConfigError if it is no pure function, RunFolderError
    if the folder's masks were made with other code, which is checked before it is imported.
    """
    spec = config.run_spec()
    inputs = spec.benchmark.channels_first
    code = _network_code(config, fingerprint(spec, recipe))
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
    if spec.network.own_code is not None:
        network["code"] = code
    identity = StoreIdentity(
        fingerprint=fingerprint(spec, recipe),
        layers=tuple((layer.name, layer.shape) for layer in mask_layers(spec.network, inputs)),
        network=network,
    )
    return _run(config, identity, weight_layers)


def _network_code(config: SweepConfig, fingerprint: str) -> str | None:
    """Return the digest that identifies the user's own network in a run, once it is known to be fit for it."""
    code = config.network.own_code
    if code is None:
        return None
    from core.networks.probe import check_network  # imports torch: only where there is a module

    require_allowed(code)
    layout = RunLayout(_root(config, fingerprint))
    recorded = read_run(layout).network.get("code") if layout.run_file.exists() else None
    if recorded is not None:
        require_code(code, str(recorded), str(layout.run_file))
    check_network(config.network, config.run_spec().benchmark.channels_first)
    require_inferable(config)
    return code_digest(code) if recorded is None else str(recorded)


def require_inferable(config: SweepConfig) -> None:
    """Raise ConfigError if the user's own network cannot be searched as the sweep's evaluation says."""
    inference = config.evaluation.inference
    if config.network.own_code is not None and config.evaluation.inferred_scenarios and inference is not None:
        from core.networks.probe import check_inference  # imports torch: only where there is a module

        check_inference(config.network, config.run_spec().benchmark.channels_first, inference)


def require_run_code(run: Run) -> None:
    """Raise ConfigError or RunFolderError unless the run's network may be imported: nothing is."""
    code = run.config.network.own_code
    if code is not None:
        require_stored_code(code, [run.identity.network.get("code")], run.layout.run_file)


def require_stored_code(code: OwnCode, recorded: Sequence[str | None], source: object) -> None:
    """Do the same for code that a stored sweep names. recorded: the digest that each of its runs has of it, if any.

    The permission for any code covers only code that a run folder was made with.
    """
    require_allowed(code)
    known = [digest for digest in recorded if digest is not None]
    if not known and permission() == ANY_CODE:
        raise RunFolderError(
            f"{source}: has no digest of the code of {code}; if it is yours, allow it by its path, as in "
            "`supsup --allow-code=PATH ...`"
        )
    for digest in known:
        require_code(code, str(digest), str(source))


def require_code(code: OwnCode, recorded: str, source: str) -> None:
    """Raise RunFolderError if the user's own code is not what a run was made with."""
    if not is_code(code, recorded):
        raise RunFolderError(
            f"{source}: the code of {code.key} is {recorded[:16]}..., but {code.import_path} with the files that it imports "
            f"is {code_digest(code)[:16]}...; it was edited, or is another one: restore it, or start a new run"
        )


def _root(config: SweepConfig, fingerprint: str) -> Location:
    return to_location(config.storage.uri) / run_folder_name(config.name, fingerprint)


def _run(config: SweepConfig, identity: StoreIdentity, weight_layers: tuple[Layer, ...]) -> Run:
    return Run(
        config, RunLayout(_root(config, identity.fingerprint)), identity.fingerprint, weight_layers, identity
    )


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
    if spec.network.own_code is not None:
        shapes = tuple(Layer(name=name, shape=shape) for name, shape in record.identity().layers)
        identity = replace(record.identity(), fingerprint=fingerprint(spec, *recipes))
        located = _run(config, identity, shapes)
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
