"""Run folders of past versions open for ever."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from orchestrator.cli.main import app, call
from orchestrator.runs.run import open_run

FOLDER = Path(__file__).parent / "format-1"
DIGESTS = ["cf07299aa6bf6c5e", "7bcd81ac0b15c629", "47e23fc78d037831", "ec3af3bdff8a8f14"]


def test_a_run_folder_of_format_1_opens_and_verifies(tmp_path, capsys):
    root = shutil.copytree(FOLDER, tmp_path / "old")
    assert call(app, ["verify", str(root)]) == 0, capsys.readouterr().out
    run, record = open_run(root)
    assert record.num_tasks == 4
    assert [digest[:16] for digest in run.store.info_table()["digest"].to_pylist()] == DIGESTS


def test_its_bytes_are_plain_parquet():
    table = pq.read_table(FOLDER / "masks" / "cohort-00000-00001.parquet")
    assert table["task"].to_pylist() == [0, 1]
    assert len(table["bits"][0].as_py()) == (36 * 16 + 7) // 8 + (16 * 8 + 7) // 8
