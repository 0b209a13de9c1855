"""``run.json``: the record of a run, written before its first mask."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import RunFolderError
from storage.files import commit_json
from storage.layout import RunLayout
from storage.mask_store import FORMAT_VERSION, StoreIdentity


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What is fixed when the run folder is made, except ``num_tasks`` and ``config``, which can grow.

    config: the resolved sweep file. cohort_size: tasks trained together.
    engine: one of ``core.training.engine``. created_s: Unix time in seconds.
    layers, network: as in every mask file. provenance: git commit, versions, device.
    """

    config: dict[str, Any]
    fingerprint: str
    num_tasks: int
    cohort_size: int
    engine: str
    created_s: float
    layers: list[dict[str, Any]]
    network: dict[str, Any]
    provenance: dict[str, Any]
    format_version: int = FORMAT_VERSION

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
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise RunFolderError(
                f"{path} has format_version {version!r}, but this version of supsup reads {FORMAT_VERSION}"
            )
        return RunRecord(**content)
    except FileNotFoundError as error:
        raise RunFolderError(f"{layout.root} is not a run folder: it has no run.json") from error
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); restore it or start a new run") from error
