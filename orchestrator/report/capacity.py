"""``supsup capacity``: the number of masks Psi holds, by rule, for a run's masks and for random ones."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from core.errors import InferenceError
from core.hopfield.capacity import Masks, measure_capacity, random_masks
from core.masks.bits import unpack
from core.specs.inference import HopfieldRule
from orchestrator.report.draw import Curve, Panel, draw_panels
from orchestrator.report.text import percent, print_plain
from orchestrator.runs.run import Run, open_run
from storage.files import commit
from storage.locations import Location

DEFAULT_COUNTS = (5, 10, 20, 50, 100, 150, 200, 300, 400, 500, 600)
Rows = list[dict[str, Any]]


def study_capacity(console: Console, root: Location, counts: Sequence[int]) -> None:
    """Measure, print and write ``report/capacity.parquet`` and ``capacity.png``. Raises InputError."""
    run, _ = open_run(root)
    if not run.config.network.traits.in_memory:
        kind = run.config.network.kind
        raise InferenceError(
            f"{run.name}: network {kind!r} has masks on weights; a memory needs them on outputs"
        )
    rows = _measure_all(run, sorted(set(counts)))
    table = pa.Table.from_pylist(rows)
    commit(run.layout.report / "capacity.parquet", lambda path: pq.write_table(table, path))
    figure = run.layout.report / "capacity.png"
    shown = {"held, %": "held", "found from 10 % flipped, %": "found_again"}
    panels = [
        Panel(y_label=label, x_label="masks stored", curves=_curves(rows, column))
        for label, column in shown.items()
    ]
    draw_panels(figure, panels, title=run.name)
    _print(console, rows)
    print_plain(console, f"figure: {figure}")


def _measure_all(run: Run, counts: Sequence[int]) -> Rows:
    rows = []
    for kind, masks in (("trained", _trained(run)), ("random", _random(run, counts[-1]))):
        most = len(masks[0])
        asked = [count for count in counts if count <= most]
        for rule in get_args(HopfieldRule):
            measured = measure_capacity(rule, masks, asked, seed=run.config.seed) if asked else ()
            rows += [{"masks": kind, "rule": rule, **asdict(capacity)} for capacity in measured]
    return rows


def _trained(run: Run) -> Masks:
    shapes = run.identity.shapes
    files = run.store.locate()
    stored = [unpack(bits, shapes) for bits in run.store.iterate_bits(files.leading, files)]
    return [np.array([mask[i] for mask in stored]).reshape(-1, *shape) for i, shape in enumerate(shapes)]


def _random(run: Run, num: int) -> Masks:
    return random_masks(run.config.seed, num, [shape[0] for shape in run.identity.shapes])


def _curves(rows: Rows, column: str) -> list[Curve]:
    groups: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        values = groups.setdefault(f"{row['masks']}, {row['rule']}", {})
        values.setdefault(float(row["num_masks"]), []).append(100 * row[column])
    return [Curve(name=name, values=values) for name, values in groups.items()]


def _print(console: Console, rows: Rows) -> None:
    table = Table("masks", "rule", "stored", "held", "found from 10 % flipped", box=SIMPLE_HEAD)
    for row in rows:
        shares = percent(row["held"]), percent(row["found_again"])
        table.add_row(row["masks"], row["rule"], str(row["num_masks"]), *shares)
    console.print(table)
