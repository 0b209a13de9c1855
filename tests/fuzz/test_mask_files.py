"""Mask files that are written, edited, or sealed anew: their masks come back, or an error of ours."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from core.errors import DamagedFileError, ForeignFileError, SupSupError
from core.masks.bits import bits_digest, pack
from storage.files import KEY, decoded, sealed_parquet
from storage.layout import RunLayout
from storage.mask_store import MaskStore, StoreIdentity, TaskMask
from storage.verify import verify_masks
from tests.fuzz.edits import EDITS, WORDS, Edit, edited
from tests.fuzz.explore import explore

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]
PROVENANCE = {"engine": "eager", "device": "cpu", "torch": "2.13.0", "finished_s": 1.5}
SHAPES = ((16, 20), (3, 5))
NUM_TASKS = 3
DENSITIES = (0.5, 0.02)  # stored as bits, and as gaps
Shapes = tuple[tuple[int, ...], ...]


def store_in(folder: Path, shapes: Shapes = SHAPES, num_norms: int = 1) -> MaskStore:
    network = {"kind": "mlp", "seed": 1, "outputs": 3, "digest": "d" * 64}
    norms = {"norms": [["norm", num_norms]]} if num_norms else {}
    layers = tuple((f"layer{number}.weight", shape) for number, shape in enumerate(shapes))
    identity = StoreIdentity(fingerprint="f" * 64, layers=layers, network=network | norms)
    return MaskStore(RunLayout(folder), identity)


def task_mask(task: int, density: float, shapes: Shapes = SHAPES, num_norms: int = 1) -> TaskMask:
    draw = np.random.default_rng(task)
    bits = pack([draw.random(shape) < density for shape in shapes]).tobytes()
    norms = draw.random(2 * num_norms).astype("<f4").tobytes() if num_norms else None
    measured = {"test_accuracy": 0.5, "train_loss": 0.25, "train_seconds": 1.0}
    return TaskMask(task=task, bits=bits, norm_stats=norms, **measured)


@contextlib.contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """Yield a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def masks_or_error(store: MaskStore) -> list[bytes] | None:
    """Return the bits of all masks, read by each way there is, or None for an error of ours."""
    try:
        rows = [mask.bits for mask in store.iterate(range(NUM_TASKS))]
        assert [bits.tobytes() for bits in store.iterate_bits(range(NUM_TASKS))] == rows
    except SupSupError:
        return None
    return rows


def read_the_rest(store: MaskStore) -> None:
    """Read all that is no mask; nothing but errors of ours may come of it."""
    for read in (
        store.info_table,
        lambda: store.facts().infos(),
        lambda: store.statistics(range(NUM_TASKS)),
        lambda: store.provenance(store.files()[0]),
        lambda: verify_masks(store, quick=True),
    ):
        with contextlib.suppress(SupSupError):
            read()


SIZES = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=3), min_size=1, max_size=3)


def test_masks_come_back_as_they_were_written(tmp_path):
    def same_masks(case: tuple[list[list[int]], list[float], int]) -> None:
        sizes, densities, num_norms = case
        shapes = tuple(map(tuple, sizes))
        masks = [task_mask(task, one, shapes, num_norms) for task, one in enumerate(densities)]
        with new_folder(tmp_path) as folder:
            store = store_in(folder, shapes, num_norms)
            store.write_cohort(masks, PROVENANCE)
            assert list(store.iterate(range(len(masks)))) == masks
            assert verify_masks(store).problems == ()

    explore(
        same_masks, st.tuples(SIZES, st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(0, 3))
    )


@pytest.mark.parametrize("density", DENSITIES)
def test_an_edit_of_the_bytes_is_found_and_no_other_mask_is_read(tmp_path, density):
    store = store_in(tmp_path)
    masks = [task_mask(task, density) for task in range(NUM_TASKS)]
    path = store.write_cohort(masks, PROVENANCE)
    content = path.read_bytes()

    def edit_is_found(edits: list[Edit]) -> None:
        path.write_bytes(edited(content, edits))
        is_same = path.read_bytes() == content
        assert (verify_masks(store).problems == ()) == is_same
        with contextlib.suppress(DamagedFileError, ForeignFileError):
            store.check(path)
            assert is_same
        assert masks_or_error(store) in (None, [mask.bits for mask in masks])
        read_the_rest(store)

    explore(edit_is_found, EDITS)


@dataclass(frozen=True)
class Sealing:
    """How a file is sealed anew. cells: (row, (column, value)). dropped, added: columns, of any type."""

    cells: list[tuple[int, tuple[str, Any]]]
    dropped: str | None
    added: tuple[str, Any] | None
    retyped: tuple[str, str] | None
    metadata: dict[str, str]
    row_group_size: int
    keeps_digests: bool


COLUMNS = st.sampled_from(
    [
        "task",
        "bits",
        "gaps",
        "rare_bit",
        "digest",
        "density",
        "test_accuracy",
        "train_loss",
        "train_seconds",
        "norm_stats",
    ]
)
OTHER = [task_mask(9, density) for density in DENSITIES]
BITS = st.sampled_from([mask.bits for mask in OTHER] + [mask.row(335)["gaps"] or b"" for mask in OTHER])
FLOATS = st.sampled_from(["density", "test_accuracy", "train_loss", "train_seconds"])
VALUES = st.one_of(
    st.tuples(st.sampled_from(["bits", "gaps"]), BITS | st.binary(max_size=80) | st.none()),
    st.tuples(st.just("norm_stats"), st.binary(max_size=16) | st.none()),
    st.tuples(st.just("digest"), st.text(max_size=64)),
    st.tuples(FLOATS, st.floats(width=32)),
    st.tuples(st.just("task"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("rare_bit"), st.integers(-128, 127) | st.none()),
)
KEYS = st.sampled_from(
    [
        "supsup.format_version",
        "supsup.fingerprint",
        "supsup.layers",
        "supsup.network",
        "supsup.provenance",
        "other",
    ]
)
METADATA = WORDS.filter(lambda word: word.isprintable()) | st.sampled_from(
    ["1", "2", "3", "01", "{}", "[]", "null", '{"finished_s": "now"}', '{"engine": 3}', "[" * 9999]
)
SEALINGS = st.builds(
    Sealing,
    cells=st.lists(st.tuples(st.integers(0, NUM_TASKS - 1), VALUES), max_size=3),
    dropped=st.none() | COLUMNS,
    added=st.none()
    | st.tuples(WORDS.filter(str.isprintable), st.integers() | st.lists(st.text(max_size=3), max_size=2)),
    retyped=st.none()
    | st.tuples(COLUMNS, st.sampled_from(["int64", "double", "large_binary", "string", "large_string"])),
    metadata=st.dictionaries(KEYS, METADATA, max_size=2),
    row_group_size=st.sampled_from([1, 1, 1, 2, 8]),
    keeps_digests=st.booleans(),
)


def sealed_anew(content: bytes, how: Sealing) -> bytes | None:
    """Return a mask file with other rows, columns and metadata under a good seal; None if there is none."""
    file = pq.ParquetFile(pa.BufferReader(content))
    metadata = {key: value for key, value in decoded(file.schema_arrow.metadata).items() if key != KEY}
    try:
        table = retyped(with_cells(file.read().replace_schema_metadata(None), how), how)
        return sealed_parquet(table, metadata | how.metadata, row_group_size=how.row_group_size)
    except (pa.ArrowException, ValueError, OverflowError, TypeError, AssertionError):
        return None


def with_cells(table: pa.Table, how: Sealing) -> pa.Table:
    rows = table.to_pylist()
    for row, (column, value) in how.cells:
        if column in rows[row]:
            rows[row][column] = value
            if column == "bits" and value is not None and not how.keeps_digests:
                rows[row]["digest"] = bits_digest(value)
    return pa.Table.from_pylist(rows, schema=table.schema)


def retyped(table: pa.Table, how: Sealing) -> pa.Table:
    if how.retyped is not None and how.retyped[0] in table.column_names:
        name, kind = how.retyped
        column = table[name].cast(getattr(pa, {"double": "float64"}.get(kind, kind))())
        table = table.set_column(table.column_names.index(name), name, column)
    if how.dropped in table.column_names:
        table = table.drop_columns([how.dropped])
    if how.added is not None:
        table = table.append_column(how.added[0], pa.array([how.added[1]] * len(table)))
    return table


@pytest.mark.parametrize("density", DENSITIES)
def test_a_file_sealed_anew_is_refused_or_read_whole(tmp_path, density):
    store = store_in(tmp_path)
    path = store.write_cohort([task_mask(task, density) for task in range(NUM_TASKS)], PROVENANCE)
    content = path.read_bytes()

    def refused_or_read(how: Sealing) -> None:
        changed = sealed_anew(content, how)
        path.write_bytes(content if changed is None else changed)
        is_good = not verify_masks(store).problems
        read = masks_or_error(store)
        assert not is_good or (read is not None and len(read) == NUM_TASKS)
        if read is not None and how.keeps_digests and all(column != "digest" for _, (column, _) in how.cells):
            assert read == [task_mask(task, density).bits for task in range(NUM_TASKS)]
        read_the_rest(store)

    explore(refused_or_read, SEALINGS)
