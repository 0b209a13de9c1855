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
