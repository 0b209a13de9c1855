"""The store of shared banks: objects are what their names say, and go only when no bank names them."""

from dataclasses import replace

import pytest

from core.errors import DamagedFileError, RunFolderError
from storage.shared import Manifest, SharedFile, SharedStore


def manifest(run, *contents):
    files = tuple(SharedFile.of(f"evaluations/GG-{i}.parquet", one) for i, one in enumerate(contents))
    return Manifest(run=run, fingerprint="f" * 64, files=files)


def stored(store, one, *contents):
    for file, content in zip(one.files, contents, strict=True):
        store.put(file, content)
    store.manifest_path(one.run).parent.mkdir(exist_ok=True)
    store.manifest_path(one.run).write_bytes(one.to_bytes())


def test_a_list_of_files_is_read_as_it_was_written(tmp_path):
    store, one = SharedStore(tmp_path), manifest("a-1", b"x", b"y")
    stored(store, one, b"x", b"y")
    assert store.manifest("a-1") == one
    assert store.runs() == ["a-1"]
    assert one.to_bytes().count(b"\n") == len(one.files) + 2
    assert [store.get(file) for file in one.files] == [b"x", b"y"]
    assert store.manifest("b-1") is store.manifest("../runs/a-1") is None


def test_an_object_goes_only_when_no_bank_names_it(tmp_path):
    store = SharedStore(tmp_path)
    a, b = manifest("a-1", b"x", b"y"), manifest("b-1", b"y", b"z")
    stored(store, a, b"x", b"y")
    stored(store, b, b"y", b"z")
    store.manifest_path("a-1").write_bytes(replace(a, files=()).to_bytes())
    assert store.remove_unnamed(a.files) == 1
    assert set(SharedStore(tmp_path).sizes) == {file.sha256 for file in b.files}


@pytest.mark.parametrize("content", [b"", b"X", b"xx"])
def test_other_bytes_are_refused(tmp_path, content):
    store, file = SharedStore(tmp_path), SharedFile.of("run.json", b"x")
    store.put(file, b"x")
    (store.objects / file.sha256).write_bytes(content)
    with pytest.raises(DamagedFileError, match="is damaged"):
        store.get(file)
    assert SharedStore(tmp_path).has(file) == (len(content) == 1), "by size: only reading finds the rest"


def test_a_later_version_is_refused(tmp_path):
    store, one = SharedStore(tmp_path), replace(manifest("a-1"), format_version=2)
    stored(store, one)
    with pytest.raises(RunFolderError, match="format_version 2"):
        store.manifest("a-1")


@pytest.mark.parametrize(
    "path", ["../x", "/run.json", "masks/../run.json", "evaluations/.x.parquet", "logs/x.log", "run.json\n"]
)
def test_a_path_outside_of_a_bank_is_refused(path):
    with pytest.raises(ValueError, match="expected a file of a run"):
        SharedFile.of(path, b"")
