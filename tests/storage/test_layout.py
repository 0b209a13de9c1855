"""Names inside a run folder."""

import os
from pathlib import Path

import pytest

from storage.layout import (
    RunLayout,
    TableKey,
    cohort_range,
    host_name,
    run_folder_name,
    temporary_path,
    temporary_writer,
)


def test_names_are_those_of_the_contract():
    layout = RunLayout(Path("r"))
    assert run_folder_name("permuted", "0123456789abcdef") == "permuted-01234567"
    assert layout.cohort(0, 31) == Path("r/masks/cohort-00000-00031.parquet")
    assert layout.evaluation(TableKey("GG", 10)) == Path("r/evaluations/GG-10.parquet")
    assert layout.evaluation(TableKey("GG", 10, 5)) == Path("r/evaluations/GG-10-b5.parquet")


def test_every_name_of_the_drawing():
    layout, key = RunLayout(Path("r")), TableKey("one_shot-G-1", 10)
    folders = [
        "logs",
        "masks",
        "evaluations",
        "quarantine",
        "report",
        "saves",
        "transfer",
        "baseline",
        "stream",
    ]
    assert [getattr(layout, name) for name in folders] == [Path("r") / name for name in folders]
    assert (layout.memories, layout.banks) == (Path("r/hopfield"), Path("r/bank"))
    files = {
        "run_file": "run.json",
        "lock": ".lock",
        "live": "live.json",
        "failures": "failures.json",
        "sessions": "sessions.json",
        "system": "system.json",
        "facts": "facts.parquet",
        "decisions": "stream/decisions.parquet",
        "stream_state": "stream/state.json",
        "summary": "report/summary.json",
        "tasks": "report/tasks.parquet",
        "config": "report/config.yaml",
        "report_record": "report/report.json",
    }
    assert {name: getattr(layout, name) for name in files} == {
        n: Path("r") / path for n, path in files.items()
    }
    made = {
        layout.log("train", 3, 4): "logs/train-00003-00004.log",
        layout.cohort_checkpoint(0, 31): "saves/cohort-00000-00031.npz",
        layout.baseline_state(4): "baseline/state-00004.npz",
        layout.score_sum(4): "transfer/scores-00004.npz",
        layout.evaluation_part(key, 0, 7): "evaluations/parts/one_shot-G-1-10/tasks-00000-00007.parquet",
        layout.recovery_part(key, 0, 7): "evaluations/parts/one_shot-G-1-10/steps-00000-00007.parquet",
        layout.recovery(key): "evaluations/recovery-one_shot-G-1-10.parquet",
        layout.confusion(key): "report/confusion-one_shot-G-1-10.parquet",
        layout.memory("storkey", 5): "hopfield/storkey-00005.parquet",
        layout.mask_state(3, 120): "stream/mask-00003-000120.npz",
    }
    assert {path: Path("r") / name for path, name in made.items()} == {path: path for path in made}


@pytest.mark.parametrize("key", [TableKey("GG", 10), TableKey("GG", 10, 5), TableKey("GNu-one_shot-G-1", 2)])
def test_keys_of_tables_are_read_back(key):
    assert TableKey.parse(str(key)) == key
    assert TableKey.parse("notes") is None


@pytest.mark.parametrize(("first", "last"), [(0, 0), (32, 63), (99_999, 100_000), (999_000, 999_999)])
def test_cohort_names_are_read_back(first, last):
    assert cohort_range(RunLayout(Path()).cohort(first, last).name) == (first, last)


@pytest.mark.parametrize(
    "name",
    ["cohort-0-1.parquet", "cohort-00003-00001.parquet", "cohort-000001-000002.parquet", "notes.txt",
     ".cohort-00000-00001.parquet.host.1.0123abcd.tmp"],
)  # fmt: skip
def test_other_names_are_no_cohorts(name):
    assert cohort_range(name) is None


def test_temporaries_hide_and_tell_their_writer():
    path = temporary_path(Path("masks/cohort-00000-00001.parquet"))
    assert path.parent == Path("masks")
    assert path.name.startswith(".")
    assert temporary_writer(path.name) == (host_name(), os.getpid())
    assert temporary_writer("cohort-00000-00001.parquet") is None
