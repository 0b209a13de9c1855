"""Targets of ``supsup reproduce``: a claim of the paper, the sweeps that measure it, the criteria.

A target is a file in ``sweeps/targets``. Its sweeps are files in ``sweeps`` with fixed settings.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from core.errors import ConfigError
from core.specs.base import Spec
from orchestrator.config.load import read_sweep_file
from orchestrator.config.shipped import SHIPPED

SWEEPS = Path("sweeps")  # in the working folder
FREE_SECTIONS = ("executor", "storage", "tracking", "data_dir")  # do not affect results
FREE_KEYS = ("benchmark.num_tasks", "evaluation.batches", "training.cohort_size")


@dataclass(frozen=True, kw_only=True)
class TargetRun(Spec):
    """One sweep of a target, run once per seed.

    name: in tables. settings: key=value on top of the file. evaluate: settings of further evaluations of
    the same masks.
    """

    name: str
    sweep: str
    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    evaluate: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Near(Spec):
    """The mean over seeds is within ``within_points`` percentage points of a number of the paper, or above it."""

    kind: Literal["near"]
    run: str
    metric: str
    k: int
    percent: float
    within_points: float


@dataclass(frozen=True, kw_only=True)
class AtLeast(Spec):
    """The mean over seeds reaches ``percent``."""

    kind: Literal["at_least"]
    run: str
    metric: str
    k: int
    percent: float


@dataclass(frozen=True, kw_only=True)
class NoDrop(Spec):
    """The mean over seeds at ``last`` tasks is at most ``within_points`` below that at ``first``."""

    kind: Literal["no_drop"]
    run: str
    metric: str
    first: int
    last: int
    within_points: float


@dataclass(frozen=True, kw_only=True)
class Above(Spec):
    """One run is above another by ``by_points``. than_metric: of the other run; None: the same metric.

    k: ``every`` compares at each k that both measured, and must hold at the largest.
    """

    kind: Literal["above"]
    run: str
    metric: str
    than: str
    k: int | Literal["every"]
    than_metric: str | None = None
    by_points: float = 0.0


Criterion = Annotated[Near | AtLeast | NoDrop | Above, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True)
class PaperNumber(Spec):
    """A published number. of: its source, such as "the paper's"."""

    percent: float
    of: str


@dataclass(frozen=True, kw_only=True)
class Target(Spec):
    """One target. place: of the claim in the paper. number: None if the paper has a figure only.

    differs: how the protocol differs from the original. A criterion's ``metric`` is
    ``scenario/accuracy`` or ``scenario/method/metric``, as in ``summary.json``.
    """

    name: str
    title: str
    claim: str
    place: str
    runs: tuple[TargetRun, ...]
    criteria: tuple[Criterion, ...]
    differs: str
    number: PaperNumber | None = None


def load_targets(names: Sequence[str]) -> list[Target]:
    """Return targets by name, in the order of their names; all if no name is given. Raises ConfigError."""
    folder = sweeps_folder() / "targets"
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    unknown = [name for name in names if name.upper() not in known]
    if unknown or not known:
        raise ConfigError(f"target {', '.join(unknown)}: expected some of {', '.join(known)} (see {folder})")
    chosen = {name.upper() for name in names} or set(known)
    return [_load(path) for name, path in known.items() if name in chosen]


def sweeps_folder() -> Path:
    """Return the folder of sweep files: in the working folder, else those that come with the package."""
    return SWEEPS if (SWEEPS / "targets").is_dir() else SHIPPED


def check_settings(settings: Sequence[str]) -> None:
    """Raise ConfigError on a setting that would change the experiment of a target."""
    for setting in settings:
        key = setting.partition("=")[0]
        if key not in FREE_KEYS and key.partition(".")[0] not in FREE_SECTIONS:
            free = ", ".join([*(f"{section}.*" for section in FREE_SECTIONS), *FREE_KEYS])
            raise ConfigError(
                f"{key}: cannot be set for a target, because its recipe is fixed; expected one of {free}. "
                "A run of its sweep files takes any setting"
            )


def departures(settings: Sequence[str]) -> list[str]:
    """Return the settings that make a target smaller, which its verdict mentions."""
    return [one for one in settings if one.partition("=")[0] in FREE_KEYS[:2]]


def _load(path: Path) -> Target:
    try:
        values = {**read_sweep_file(path), "name": path.stem}
        target = TypeAdapter(Target).validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigError(
            f"target file {path} cannot be used: {' '.join(str(error).split())[:300]}"
        ) from error
    names = {run.name for run in target.runs}
    for criterion in target.criteria:
        if not {criterion.run, getattr(criterion, "than", criterion.run)} <= names:
            raise ConfigError(
                f"target file {path}: a criterion does not name any of the runs {', '.join(sorted(names))}"
            )
    return target
