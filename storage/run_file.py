"""``run.json``: the record of a run, written before its first mask."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from core.errors import DamagedFileError, RunFolderError
from core.specs.base import MAX_TASKS
from core.specs.training import Engine
from storage.files import commit_json
from storage.json_file import STRICT, read_json
from storage.layout import RunLayout
from storage.locations import Location, plain_file
from storage.mask_store import FORMAT_VERSION, StoreIdentity

MAX_WEIGHTS = 2**40  # of a layer


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What is fixed when the run folder is made, except ``num_tasks`` and ``config``, which can grow.

    config: the resolved sweep file. cohort_size: tasks trained together.
    engine: one of ``core.training.engine``. created_s: Unix time in seconds.
    layers, network: as in every mask file. provenance: git commit, versions, device.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    config: dict[str, Any]
    fingerprint: str
    num_tasks: int
    cohort_size: int
    engine: Engine
    created_s: float
    layers: list[dict[str, Any]]
    network: dict[str, Any]
    provenance: dict[str, Any]
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Raise ValueError for numbers and layers that no run has."""
        if not 1 <= self.num_tasks <= MAX_TASKS or self.cohort_size < 1:
            raise ValueError(f"found {self.num_tasks} tasks in cohorts of {self.cohort_size}")
        if not self.layers or not all(map(_is_layer, self.layers)):
            raise ValueError("expected layers with a name and a shape of positive numbers")
        if not _is_network(self.network):
            raise ValueError(
                "expected a network with a digest, and norms with a name and a number of channels"
            )

    def identity(self) -> StoreIdentity:
        """Return the identity that the run's mask files must carry."""
        return StoreIdentity(
            fingerprint=self.fingerprint,
            layers=tuple((layer["name"], tuple(layer["shape"])) for layer in self.layers),
            network=self.network,
        )


def write_run(layout: RunLayout, record: RunRecord) -> None:
    """Commit ``run.json``."""
    commit_json(layout.run_file, asdict(record))


def read_run(layout: RunLayout) -> RunRecord:
    """Return the run's record. Raises RunFolderError if it is missing or unreadable."""
    path = layout.run_file
    try:
        _check_version(path)
        return read_json(path, RunRecord)
    except FileNotFoundError as error:
        raise RunFolderError(f"{layout.root} is not a run folder: it has no run.json") from error
    except DamagedFileError as error:
        raise RunFolderError(f"{error}; restore it or start a new run") from error
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error}); restore it or start a new run") from error


def _check_version(path: Location) -> None:
    """Raise RunFolderError for a record of another version, whose other keys may differ; leave the rest."""
    try:
        content = json.loads(plain_file(path).read_bytes())
    except (ValueError, RecursionError):
        return
    version = content.get("format_version") if isinstance(content, dict) else FORMAT_VERSION
    if version != FORMAT_VERSION:
        raise RunFolderError(
            f"{path} has format_version {version!r}, but this version of supsup reads {FORMAT_VERSION}"
        )


def _is_network(network: dict[str, Any]) -> bool:
    norms = network.get("norms", [])
    return isinstance(network.get("digest"), str) and isinstance(norms, list) and all(map(_is_norm, norms))


def _is_norm(norm: Any) -> bool:
    is_pair = isinstance(norm, list) and len(norm) == 2 and isinstance(norm[0], str)
    return is_pair and type(norm[1]) is int and 1 <= norm[1] <= MAX_WEIGHTS


def _is_layer(layer: dict[str, Any]) -> bool:
    shape = layer.get("shape")
    if layer.keys() != {"name", "shape"} or not isinstance(layer["name"], str) or not isinstance(shape, list):
        return False
    return bool(shape) and all(type(n) is int and n >= 1 for n in shape) and math.prod(shape) <= MAX_WEIGHTS
