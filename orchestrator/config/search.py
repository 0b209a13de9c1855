"""The ``search`` section: which settings to try, and when to stop trying one."""

from dataclasses import dataclass
from typing import Literal

from core.seeding import stream
from core.specs.base import Spec, require

Value = bool | int | float | str
Kind = Literal["grid", "choice", "uniform", "loguniform"]
Scheduler = Literal["fifo", "asha", "median", "hyperband"]
Settings = dict[str, Value]

SECTIONS = ("seed", "benchmark", "network", "mask", "training", "baseline", "evaluation")
DRAWN: tuple[Kind, ...] = ("choice", "uniform", "loguniform")
KINDS: tuple[Kind, ...] = ("grid", *DRAWN)
MAX_SAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One key that a search varies. values: the grid, the choices, or (low, high)."""

    key: str
    kind: Kind
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """The last part of the key, for tables and axes."""
        return self.key.rsplit(".", maxsplit=1)[-1]

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(type(value) in (int, float) for value in self.values)

    @property
    def is_log(self) -> bool:
        """Whether the values span enough decades for a logarithmic axis."""
        if not self.is_numeric:
            return False
        low, high = min(map(float, self.values)), max(map(float, self.values))
        return low > 0 and (self.kind == "loguniform" or high / low >= 30)

    def draw(self, seed: int, sample: int) -> Value:
        """Return draw ``sample``, which depends on seed, key and ``sample`` alone."""
        purpose_index = int.from_bytes(self.key.encode(), "big")
        generator = stream(seed, "search", purpose_index, sample)
        if self.kind == "choice":
            return self.values[int(generator.integers(len(self.values)))]
        low, high = (float(value) for value in self.values)
        share = float(generator.random())
        if self.kind == "loguniform":
            return float(f"{low * (high / low) ** share:.6g}")
        if all(type(value) is int for value in self.values):
            return int(low + share * (high - low + 1))
        return float(f"{low + share * (high - low):.6g}")


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Spec):
    """Many runs, one per point, each with its own settings and run folder.

    space: values by full dotted key of the sweep file. A list is a grid: all combinations are run. With
        ``.uniform`` or ``.loguniform`` after the key, values are drawn from [low, high], as whole numbers
        if both ends are; with ``.choice``, they are drawn from the list.
    num_samples: number of draws, each run with every combination of the grid.
    metric: metric that ranks the points, by its name in MLflow, at the largest k. None: the accuracy of
        the first scenario.
    mode: whether the largest or the smallest value of ``metric`` is the best.
    scheduler: Ray Tune's scheduler. ``fifo`` runs every point to its end; ``asha``, ``median`` and
        ``hyperband`` end points early if their mean accuracy so far falls behind.
    grace_tasks: number of tasks that every point trains before it can be ended early. None: a tenth.
    reduction_factor: in each round of asha and hyperband, one point in this many goes on.
    """

    space: dict[str, tuple[Value, ...]]
    num_samples: int | None = None
    metric: str | None = None
    mode: Literal["max", "min"] = "max"
    scheduler: Scheduler = "fifo"
    grace_tasks: int | None = None
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        require(bool(self.space), "search.space", {}, "at least one key with its values")
        for dimension in self.dimensions:
            _check(dimension)
        keys = [dimension.key for dimension in self.dimensions]
        require(len(set(keys)) == len(keys), "search.space", keys, "each key once")
        has_draws = any(dimension.kind in DRAWN for dimension in self.dimensions)
        number = self.num_samples
        expected = f"a number from 1 to {MAX_SAMPLES:,} with keys to draw from, else null"
        ok = has_draws if number is not None else not has_draws
        require(ok and 1 <= (number or 1) <= MAX_SAMPLES, "search.num_samples", number, expected)
        grace = self.grace_tasks
        require(grace is None or grace >= 1, "search.grace_tasks", grace, "null or a number >= 1")
        factor = self.reduction_factor
        require(2 <= factor <= 100, "search.reduction_factor", factor, "a number from 2 to 100")

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The keys with their values, in the order of the file."""
        return tuple(_dimension(key, values) for key, values in self.space.items())


def values_words(values: Settings) -> str:
    """Return the values of a setting in short, such as ``lr 0.01, outputs 500``."""
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in values.items())


def _dimension(key: str, values: tuple[Value, ...]) -> Dimension:
    for kind in KINDS:
        if key.endswith(f".{kind}"):
            return Dimension(key=key.removesuffix(f".{kind}"), kind=kind, values=values)
    return Dimension(key=key, kind="grid", values=values)


def _check(dimension: Dimension) -> None:
    key, values = f"search.space.{dimension.key}", dimension.values
    if dimension.kind in ("grid", "choice"):
        ok = len(values) > 0 and len(set(map(repr, values))) == len(values)
        require(ok, key, list(values), "a list of different values")
    else:
        ok = len(values) == 2 and dimension.is_numeric and values[0] < values[1]  # type: ignore[operator]
        require(ok, f"{key}.{dimension.kind}", list(values), "two numbers [low, high], low below high")
        ok = dimension.kind == "uniform" or float(values[0]) > 0
        require(ok, f"{key}.{dimension.kind}", list(values), "two numbers above 0")
    ok = dimension.key.split(".")[0] in SECTIONS
    expected = f"keys of {', '.join(SECTIONS)}; other keys change no result"
    require(ok, "search.space", dimension.key, expected)
