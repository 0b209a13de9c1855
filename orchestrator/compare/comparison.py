"""A comparison of runs: read, grouped, and as a table in several languages."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from core.errors import ConfigError, RunFolderError, plural
from orchestrator.compare import texts
from orchestrator.compare.groups import Groups, Measured, Row, group_rows, group_runs
from orchestrator.compare.read import check_scenarios, chosen, find_folders, misfit, read_measured
from orchestrator.config.load import full_key
from storage.locations import Location


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs by group, over seeds. left_out: runs and k that do not fit, and why, as text. over: the key averaged over."""

    rows: tuple[Row, ...]
    groups: Groups
    left_out: tuple[str, ...]
    over: str

    @property
    def sources(self) -> dict[str, str]:
        """The sha256 of the summary of each run, by its name."""
        return {run.name: run.source for runs in self.groups.values() for run in runs.values()}

    @cached_property
    def table(self) -> pa.Table:
        """A row per scenario, method of inference, k, metric and group; fractions, null where undefined."""
        return pa.Table.from_pylist([texts.record(row, self.sources) for row in self.rows])

    def latex(self) -> str:
        """Return a table that needs the package booktabs."""
        return texts.latex(self.rows, self.sources)

    def markdown(self) -> str:
        """Return a Markdown table."""
        return texts.markdown(self.rows, self.sources)

    def csv(self) -> str:
        """Return ``table`` as comma-separated values."""
        return texts.csv_text(self.table)

    def __repr__(self) -> str:
        """Return what is compared, in a line."""
        return f"<Comparison of {', '.join(self.groups)}: {plural(len(self.rows), 'row')}>"

    def _repr_html_(self) -> str:
        """Return the table, for notebooks."""
        return texts.html(self.rows, self.left_out)


def compare_runs(
    names: Sequence[str],
    *,
    by: Sequence[str] | None = None,
    over: str = "seed",
    scenarios: Sequence[str] = (),
    ks: Sequence[int] = (),
    storage: str | Location = "runs",
) -> Comparison:
    """Compare the runs that the names mean. Raises InputError; nothing is written."""
    left_out: list[str] = []
    found = []
    for root in find_folders(names, storage):
        measured = read_measured(root)
        if isinstance(measured, str):
            left_out.append(f"{root.name}: {measured}")
        else:
            found.append(measured)
    known = dict.fromkeys(key for run in found for key in run.keys)
    by = None if by is None else [_key("--by", name, known) for name in by]
    over = _key("--over", over, known) if found else over
    check_scenarios(found, scenarios if found else ())
    kept = _fitting([chosen(run, scenarios, ()) for run in found], [*(by or ()), over], ks, left_out)
    if not kept:
        raise RunFolderError("nothing to compare:\n" + "\n".join(left_out))
    groups = group_runs(kept, by, over)
    cells = sorted({cell for run in kept for cell in run.values}, key=lambda cell: (cell.metric, *cell[:3]))
    return Comparison(
        rows=tuple(group_rows(groups, cells)), groups=groups, left_out=tuple(left_out), over=over
    )


def _key(option: str, name: str, known: dict[str, None]) -> str:
    key = full_key(name, known)
    if key not in known:
        raise ConfigError(f"{option}: found {name!r}, expected a key of the sweeps, such as training.steps")
    return key


def _fitting(
    runs: Sequence[Measured], free: Sequence[str], ks: Sequence[int], left_out: list[str]
) -> list[Measured]:
    """Return the runs of one benchmark with the k that all have; note the others, and why."""
    kept: list[Measured] = []
    common = set(ks)
    for run in runs:
        reason = misfit(run, kept[0], free) if kept else None
        if reason is None:
            shared = run.ks & common if ks or kept else run.ks
            if not shared or (ks and shared != set(ks)):
                reason = f"measured at k = {_numbers(run.ks)}, expected {_numbers(common)}"
        if reason is not None:
            left_out.append(f"{run.name}: {reason}")
            continue
        kept.append(run)
        common = shared
    dropped = {k for run in kept for k in run.ks} - common
    if dropped and not ks:
        left_out.append(f"k = {_numbers(dropped)}: not measured in every run")
    return [chosen(run, (), sorted(common)) for run in kept]


def _numbers(ks: set[int]) -> str:
    return ", ".join(map(str, sorted(ks))) or "none"
