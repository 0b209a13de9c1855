"""Tables of a target that figures are drawn from, as CSV: small enough to be published with them."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from core.errors import DamagedFileError
from orchestrator.reproduce.measure import Point, TargetFolders, points_table
from orchestrator.runs.results import test_batches
from orchestrator.runs.run import Run
from storage.files import commit_bytes, parquet_source
from storage.locations import AnyPath, listed
from storage.tables import read_evaluation, read_table

Tables = Mapping[str, pa.Table]
POINTS, CONFUSION, STEPS = "points", "confusion", "steps"


def target_tables(folders: TargetFolders, points: Sequence[Point]) -> dict[str, pa.Table]:
    """Return the tables by name: points; confusion at the largest k; steps of recoveries."""
    tables = {POINTS: points_table(points)} if points else {}
    found = [(seed, run) for _, seed, run in folders if run.layout.run_file.exists()]
    for name, rows in ((CONFUSION, _confusions(found)), (STEPS, _steps(found))):
        if rows:
            tables[name] = pa.concat_tables(rows)
    return tables


def write_tables(folder: AnyPath, target: str, tables: Tables) -> None:
    """Commit ``<target>-<name>.csv`` of each table."""
    for name, table in tables.items():
        text = io.BytesIO()
        pa_csv.write_csv(table, text)
        commit_bytes(folder / f"{target}-{name}.csv", text.getvalue())


def read_tables(folder: AnyPath, target: str) -> dict[str, pa.Table]:
    """Return what ``write_tables`` wrote of a target."""
    return {
        path.stem.removeprefix(f"{target}-"): pa_csv.read_csv(parquet_source(path))
        for path in listed(folder, f"{target}-*.csv")
    }


def _confusions(runs: Sequence[tuple[int, Run]]) -> list[pa.Table]:
    """Return which task was taken for which at the last k, of runs with few enough tasks to draw."""
    found = []
    for seed, run in runs:
        evaluation = run.config.evaluation
        if run.config.benchmark.kind != "rotated":
            continue
        k = evaluation.points(run.config.benchmark.num_tasks)[-1]
        path = run.layout.confusion(evaluation.way.label, k, test_batches(run))
        if path.exists():
            found.append(_with(read_table(path), seed=seed, k=k))
    return found


def _steps(runs: Sequence[tuple[int, Run]]) -> list[pa.Table]:
    """Return, for each seed, way and step of recovery: the mean share of bits still wrong, masks found exactly."""
    found = []
    for seed, run in runs:
        bits = sum(shape[0] for shape in run.identity.shapes)
        for path in listed(run.layout.evaluations, "recovery-*.parquet"):
            try:
                table = read_evaluation(path, run.fingerprint)
            except DamagedFileError:
                continue
            if table["hamming"].null_count:  # the masks are gone
                continue
            found.append(_with(_mean_steps(table, bits), seed=seed, way=_way(path)))
    return found


def _mean_steps(table: pa.Table, bits: int) -> pa.Table:
    """Return the mean over tasks at each step; a task whose images end earlier stays where it ended."""
    tasks = table.sort_by([("task", "ascending"), ("step", "ascending")]).group_by("task", use_threads=False)
    wrong = [np.array(row) for row in tasks.aggregate([("hamming", "list")])["hamming_list"].to_pylist()]
    most = max(len(row) for row in wrong)
    wrong_TS = np.stack([np.pad(row, (0, most - len(row)), mode="edge") for row in wrong])
    return pa.table(
        {
            "step": range(most),
            "share_wrong": (wrong_TS / bits).mean(axis=0),
            "share_exact": (wrong_TS == 0).mean(axis=0),
        }
    )


def _way(path: AnyPath) -> str:
    """Return the way of recovery that a table's name says."""
    return path.stem.removeprefix("recovery-").rpartition("-")[0]


def _with(table: pa.Table, **constants: int | str) -> pa.Table:
    """Return ``table`` with a column for each constant."""
    for name, value in constants.items():
        table = table.append_column(name, pa.array([value] * len(table)))
    return table
