"""run.json is written whole and refused when it is not ours."""

import json
from dataclasses import asdict, replace

import pytest

from core.errors import RunFolderError
from storage.layout import RunLayout
from storage.run_file import RunRecord, read_run, write_run

RECORD = RunRecord(
    config={"name": "x"},
    fingerprint="f" * 64,
    num_tasks=4,
    cohort_size=2,
    engine="eager",
    created_s=1.0,
    layers=[{"name": "fc1.weight", "shape": [3, 2]}],
    network={"kind": "mlp", "seed": 0, "outputs": 3, "digest": "d"},
    provenance={},
)


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, layers=[{"name": "w", "shape": [1, 1]}]),
        replace(RECORD, layers=[{"name": "w", "shape": [2**20, 2**20]}], num_tasks=1, cohort_size=1),
        replace(RECORD, network=RECORD.network | {"norms": [["bn", 1], ["bn2", 2**40]]}),
    ],
)
def test_what_is_written_is_read(tmp_path, record):
    layout = RunLayout(tmp_path / "run")
    write_run(layout, record)
    assert read_run(layout) == record
    assert record.identity().layers[0][1] == tuple(record.layers[0]["shape"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not a run folder: it has no run.json"),
        ("{", "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"format_version": 2}', "has format_version 2, but this version of supsup reads 1"),
        (json.dumps({"format_version": 1, "surprise": 1}), "config: Field required"),
        ("[" * 100_000 + "]" * 100_000, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("7", "cannot be read"),
    ],
)
def test_anything_else_is_refused_in_words(tmp_path, content, words):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunFolderError, match=words):
        read_run(RunLayout(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_tasks", -1, "found -1 tasks"),
        ("num_tasks", 10**12, "tasks in cohorts"),
        ("num_tasks", "4", "num_tasks"),
        ("cohort_size", 0, "cohorts of 0"),
        ("engine", "evil", "engine"),
        ("created_s", float("nan"), "created_s"),
        ("config", None, "config"),
        ("network", [1], "network"),
        ("provenance", None, "provenance"),
        ("layers", "abc", "layers"),
        ("layers", [], "layers"),
        ("layers", [{"name": "x"}], "layers"),
        ("layers", [{"name": "w", "shape": [10**9, 10**9]}], "layers"),
        ("layers", [{"name": "w", "shape": [True]}], "layers"),
        ("layers", [{"name": "w", "shape": ["3"]}], "layers"),
        ("network", {}, "a network with a digest"),
        ("network", {"digest": 5}, "a network with a digest"),
        ("network", {"digest": "d", "norms": 5}, "norms with a name"),
        ("network", {"digest": "d", "norms": [["bn", -1]]}, "norms with a name"),
        ("network", {"digest": "d", "norms": [["bn", 0]]}, "norms with a name"),
        ("network", {"digest": "d", "norms": [["bn", 2**40 + 1]]}, "norms with a name"),
        ("layers", [{"name": "w", "shape": [3, 0]}], "layers"),
        ("layers", [{"name": "w", "shape": [2**40 + 1]}], "layers"),
        ("evil", 1, "evil"),
    ],
)
def test_a_record_with_a_wrong_value_is_refused_by_its_key(tmp_path, key, value, words):
    content = asdict(RECORD) | {key: value}
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match=words):
        read_run(RunLayout(tmp_path))
