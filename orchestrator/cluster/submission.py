"""What is uploaded to a cluster with a job: this code, the sweep and the versions of its libraries.

Data and runs are not uploaded: runs are in ``storage.uri``, which every node sees, and the job's
controller loads the data and sends them once to each node.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

import orchestrator
from core.errors import ConfigError
from core.rooms import ROOMS
from orchestrator.config.load import config_values, read_cluster_file, read_sweep_file, set_keys
from orchestrator.config.store_uri import absolute_uri
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.record import package_version
from storage.files import commit_json, commit_text
from storage.locations import to_location

MAX_BYTES = 100 * 2**20  # Ray's dashboard refuses larger uploads, despite its documentation
SWEEP_FILE, LOCK_FILE = "sweep.json", "lock.json"
DATA_HINT = "SUPSUP_DATA_OF_CLIENT"
COMMANDS = ("head_start_ray_commands", "worker_start_ray_commands")


def stage(folder: Path, config: SweepConfig, inputs: Iterable[Path] = ()) -> None:
    """Fill ``folder`` with what is uploaded. Raises ConfigError on missing or too large inputs."""
    root = Path(orchestrator.__file__).resolve().parent.parent
    for room in ROOMS:
        shutil.copytree(
            root / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "sweeps")
        )
    # Not sorted: the order of the search space decides the order of its runs.
    commit_text(folder / SWEEP_FILE, json.dumps(config_values(with_settled_paths(config))))
    commit_json(folder / LOCK_FILE, versions())
    for path in inputs:
        _copy(path, folder)
    _check_size(folder)


def with_settled_paths(config: SweepConfig) -> SweepConfig:
    """Return the sweep with absolute paths, which mean the same on the cluster."""
    found = {}
    if "://" not in config.storage.uri:
        found["storage.uri"] = str(to_location(config.storage.uri))
    if config.tracking.uri is not None:
        found["tracking.uri"] = absolute_uri(config.tracking.uri)
    if config.data_dir is not None:
        found["data_dir"] = str(Path(config.data_dir).expanduser().absolute())
    return set_keys(config, found, "the sweep with absolute paths")


def data_hint() -> dict[str, str]:
    """Return the environment variable that gives a job the local data folder, which its nodes may share."""
    data = os.environ.get("SUPSUP_DATA")
    return {DATA_HINT: str(Path(data).expanduser().absolute())} if data else {}


def take_data_hint() -> str | None:
    """Use the folder from ``data_hint`` if this machine has it; otherwise return a note for the user."""
    named = os.environ.get(DATA_HINT)
    if named is None or "SUPSUP_DATA" in os.environ:
        return None
    if not Path(named).is_dir():
        return f"the data folder {named} is not on this node; the node's cache or a download is used instead"
    os.environ["SUPSUP_DATA"] = named
    return None


def versions() -> dict[str, str | None]:
    """Return the installed version of each library that this project requires."""
    needed = (Requirement(line) for line in requires("supsup") or [])
    return versions_of(need.name for need in needed if need.marker is None)


def versions_of(names: Iterable[str]) -> dict[str, str | None]:
    """Return the installed version of each library, None if it is missing."""
    return {name: package_version(name) for name in names}


def version_differences(here: dict[str, str | None], there: dict[str, str | None]) -> list[str]:
    """Return, as text, the libraries whose versions differ; build tags are ignored."""
    found = []
    for name, version in there.items():
        mine, other = (str(v).split("+")[0] if v else None for v in (here.get(name), version))
        if mine != other:
            found.append(f"{name} {other or 'missing'} instead of {mine or 'none'}")
    return found


def sweep_id(sweep: dict[str, Any]) -> str:
    """Return an id of exactly this sweep: its name and a digest of every key in the file."""
    text = json.dumps(sweep, sort_keys=True, separators=(",", ":"))
    return f"{sweep.get('name')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def file_identity(path: Path) -> str:
    """Return the id of the sweep in a file, with a note if it is within a cluster file. Raises ConfigError."""
    identity = sweep_id(read_sweep_file(path))
    return identity if read_cluster_file(path) is None else f"{identity}, within a Ray cluster configuration"


def _copy(path: Path, folder: Path) -> None:
    target = folder / path.name
    if target.exists() or not path.exists():
        why = "another one has the same name" if target.exists() else "no such file or folder"
        raise ConfigError(f"--include: found {str(path)!r}: {why}")
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        shutil.copy2(path, target)


def _check_size(folder: Path) -> None:
    sizes = {entry.name: sum(_sizes(entry)) for entry in folder.iterdir()}
    total = sum(sizes.values())
    if total > MAX_BYTES:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        named = ", ".join(f"{name} {sizes[name] / 2**20:.0f} MiB" for name in largest)
        raise ConfigError(
            f"the job's files take {total / 2**20:.0f} MiB, and Ray accepts {MAX_BYTES // 2**20}; the largest: "
            f"{named}; keep data on a path that the cluster can reach"
        )


def _sizes(path: Path) -> Iterator[int]:
    files = path.rglob("*") if path.is_dir() else [path]
    return (file.stat().st_size for file in files if file.is_file())


def check_cluster_file(cluster: dict[str, Any], source: str) -> None:
    """Raise ConfigError if a command would start an unprotected Ray, or one that reports usage."""
    for key in COMMANDS:
        for command in cluster.get(key) or []:
            problem = _problem(str(command))
            if problem is not None:
                raise ConfigError(
                    f"{source}: {key}: found {command!r}: {problem}; docs/cluster.md has examples"
                )


def _problem(command: str) -> str | None:
    if not re.search(r"\bray start\b", command):
        return None
    has_token = re.search(r"\bRAY_AUTH_MODE=token\b", command)
    is_open = re.search(r"--dashboard-host[= ]+(?!127\.0\.0\.1|localhost)\S+", command)
    if is_open and not has_token:
        return "it opens the dashboard, which runs code for anyone who can reach it; put RAY_AUTH_MODE=token before it"
    if not has_token:
        return "it starts Ray without a token; put RAY_AUTH_MODE=token before it"
    if "--disable-usage-stats" not in command and "RAY_USAGE_STATS_ENABLED=0" not in command:
        return "it sends usage statistics; add --disable-usage-stats"
    return None
