"""Every file made from masks is tied to them: with other masks it is made again, and ``verify`` says so."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.accuracy_matrix import accuracy_matrix
from orchestrator.runs.made_from import table_sources
from orchestrator.runs.run import locate_run
from storage.matrix_file import read_matrix, write_matrix
from storage.tables import given_metadata, write_evaluation
from tests.conftest import supsup, sweep_text

BOTH = "{scenarios: [GG, GNu], at: [2, 4]}"


def make_run(folder, steps=60):
    training = f"{{steps: {steps}, batch_size: 16, optimizer: {{kind: rmsprop, lr: 1.0e-2}}, cohort_size: 2}}"
    folder.mkdir(exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(sweep_text(folder / "runs", evaluation=BOTH, training=training))
    assert supsup("run", path) == 0
    return path, locate_run(load_sweep(path))


def numbers(run):
    found = json.loads(run.layout.summary.read_text())
    del found["made_from"]
    return found


@pytest.fixture
def swapped(tmp_path):
    """Return a run whose masks were replaced by other valid ones, and the numbers of those."""
    path, run = make_run(tmp_path / "run")
    _, short = make_run(tmp_path / "short", steps=2)
    for first in (0, 2):
        masks = list(short.store.iterate([first, first + 1]))
        run.store.write_cohort(masks, {"engine": "eager", "device": "other", "torch": "x", "finished_s": 1.0})
    return path, run, numbers(short)


def test_with_other_masks_verify_names_each_stale_file(swapped, capsys):
    _, run, _ = swapped
    assert supsup("verify", run.layout.root) == 1
    shown = capsys.readouterr().out
    names = ("GG-2.parquet", "GG-4.parquet", "GNu-one_shot-G-1-4.parquet", "tasks.parquet", "summary.json")
    assert all(
        any(line.startswith("stale: ") and name in line for line in shown.splitlines()) for name in names
    )


@pytest.mark.parametrize("verb", ["run", "evaluate"])
def test_with_other_masks_everything_is_measured_again(swapped, verb, capsys):
    path, run, wanted = swapped
    assert supsup(verb, path if verb == "run" else run.layout.root) == 0
    assert numbers(run) == wanted
    assert "from before" not in capsys.readouterr().out
    assert supsup("verify", run.layout.root) == 0, capsys.readouterr().out


def test_a_report_shows_no_number_of_other_masks(swapped):
    _, run, _ = swapped
    before = f"{100 * numbers(run)['GNu']['one_shot-G-1']['4']['accuracy']:.2f}"
    assert supsup("report", run.layout.root) == 0
    assert before not in (run.layout.report / "report.html").read_text()


def test_an_edited_table_is_found_and_measured_again(tmp_path, capsys):
    path, run = make_run(tmp_path)
    wanted, table = numbers(run), run.layout.evaluations / "GG-4.parquet"
    rows = pq.read_table(table)
    place = rows.column_names.index("num_correct")
    pq.write_table(rows.set_column(place, rows.schema.field(place), rows["num_images"]), table)
    assert supsup("verify", run.layout.root) == 1
    assert f"damaged: {table}: its bytes do not match its checksum" in capsys.readouterr().out
    assert supsup("run", path) == 0
    assert numbers(run) == wanted


def test_an_edited_summary_is_found_and_made_again(tmp_path, capsys):
    path, run = make_run(tmp_path)
    wanted = numbers(run)
    edited = json.loads(run.layout.summary.read_text())
    edited["GG"]["4"]["accuracy"] = 0.123
    run.layout.summary.write_text(json.dumps(edited))
    assert supsup("verify", run.layout.root) == 1
    assert "its numbers do not match its digest" in capsys.readouterr().out
    assert supsup("run", path) == 0
    assert numbers(run) == wanted


def test_a_flipped_bank_is_made_again_and_answers_stay(tmp_path, capsys):
    _, run = make_run(tmp_path)
    np.save(tmp_path / "image.npy", np.full((6, 6), 7))
    infer = ("infer", run.layout.root, tmp_path / "image.npy", "--json")
    capsys.readouterr()
    assert supsup(*infer) == 0
    answer = capsys.readouterr().out
    (bank,) = run.layout.banks.glob("*.npy")
    tiles = np.load(bank, mmap_mode="r+")
    tiles[:] = tiles[:, [1, 2, 3, 0]].copy()
    tiles.flush()
    assert supsup("verify", run.layout.root) == 1
    assert f"damaged: {bank}: its bytes do not match its digest" in capsys.readouterr().out
    assert supsup(*infer) == 0
    assert capsys.readouterr().out == answer
    assert supsup("verify", run.layout.root) == 0


def test_tables_of_an_older_version_are_noted_and_measured_again(tmp_path, capsys):
    path, run = make_run(tmp_path)
    wanted = numbers(run)
    for table in run.layout.evaluations.glob("*.parquet"):
        rows = pq.read_table(table)
        old = {
            k: v for k, v in rows.schema.metadata.items() if k not in (b"supsup.masks", b"supsup.checksum")
        }
        pq.write_table(rows.replace_schema_metadata(old), table)
    assert supsup("verify", run.layout.root) == 0
    assert "GG-4.parquet is of an older version, which did not note its masks" in capsys.readouterr().out
    assert supsup("run", path) == 0
    assert numbers(run) == wanted
    assert supsup("verify", run.layout.root) == 0
    assert "older version" not in capsys.readouterr().out


def test_repair_moves_what_is_stale_and_loses_nothing(swapped, capsys):
    _, run, wanted = swapped
    assert supsup("verify", run.layout.root, "--repair") == 0
    moved = {path.name for path in run.layout.quarantine.iterdir()}
    assert {"GG-2.parquet", "GG-4.parquet", "summary.json"} <= moved
    assert supsup("evaluate", run.layout.root) == 0
    assert numbers(run) == wanted


@pytest.mark.parametrize("what", ["saves/cohort-00000-00001-0123456789abcdef.npz", "sessions.json"])
def test_every_other_file_is_read_too(tmp_path, what, capsys):
    _, run = make_run(tmp_path)
    path = run.layout.root / what
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"half")
    assert supsup("verify", run.layout.root) == 1
    assert f"damaged: {path}" in capsys.readouterr().out


def test_the_accuracy_matrix_says_what_its_tables_say_and_given_tasks_are_never_forgotten(tmp_path, capsys):
    path, run = make_run(tmp_path)
    assert {one.stem for one in run.layout.report.glob("matrix-*")} == {
        "matrix-GG",
        "matrix-GNu-one_shot-G-1",
    }
    assert accuracy_matrix(run, "GG").metrics.backward_transfer == 0.0
    matrix = run.layout.report / "matrix-GG.parquet"
    rows, metadata, (_, key) = read_matrix(matrix, run.fingerprint)
    assert metadata["supsup.masks"] == run.store.facts().digests.joint(4)
    changed = rows.set_column(2, rows.schema.field(2), pa.array([0.0] * len(rows)))
    write_matrix(run.layout, key, changed, run.fingerprint, metadata["supsup.masks"])
    assert supsup("verify", run.layout.root) == 1
    assert "its row k = 2 is not what GG-2.parquet says" in capsys.readouterr().out
    assert supsup("run", path) == 0
    assert supsup("verify", run.layout.root) == 0
    write_matrix(run.layout, key, rows, run.fingerprint, "f" * 64)
    assert supsup("verify", run.layout.root) == 1
    assert f"stale: {matrix} was made from masks ffffffff" in capsys.readouterr().out


def test_a_deep_verification_measures_every_mask_again(tmp_path, capsys):
    _, run = make_run(tmp_path / "run")
    assert supsup("verify", run.layout.root, "--deep") == 0
    assert "4 tasks measured again" in capsys.readouterr().out
    masks = list(run.store.iterate([2, 3]))
    told = [replace(masks[0], test_accuracy=0.3), masks[1]]
    run.store.write_cohort(told, {"engine": "eager", "device": "other", "torch": "x", "finished_s": 1.0})
    before = sorted(run.layout.root.rglob("*"))
    assert supsup("verify", run.layout.root) == 0, "the masks are as they were, so their tables are good"
    capsys.readouterr()
    assert supsup("verify", run.layout.root, "--deep") == 1
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("task ")]
    assert line.startswith("task 2: measured ")
    assert line.endswith("but its mask file says 30.00 %")
    assert sorted(run.layout.root.rglob("*")) == before
    assert supsup("verify", run.layout.root, "--deep", "--quick") == 2


def test_a_deep_verification_compares_tables_too(tmp_path, capsys):
    _, run = make_run(tmp_path / "run")
    path = run.layout.evaluations / "GG-4.parquet"
    table = pq.read_table(path)
    column = table.schema.get_field_index("num_correct")
    wrong = table.set_column(column, table.schema.field(column), pa.array([0] * len(table), pa.int32()))
    metadata = given_metadata(4, run.fingerprint, run.config.evaluation.batches, joint_digest(run, 4))
    write_evaluation(path, wrong.replace_schema_metadata(None), metadata)
    assert supsup("verify", run.layout.root, "--deep") == 1
    assert "but its GG table says 0.00 %" in capsys.readouterr().out


def joint_digest(run, k):
    return table_sources(run, run.store.facts()).masks(k)
