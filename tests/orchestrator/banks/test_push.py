"""A bank in a shared store: only what is new is sent, every byte is verified, and what is killed loses nothing."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from core.errors import DamagedFileError
from orchestrator.runs.run import open_run
from storage.locations import to_location
from storage.shared import SharedFile, SharedStore
from tests.conftest import supsup
from tests.orchestrator.banks.test_merge import digests, tables, trained


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Train four of six tasks."""
    return trained(tmp_path_factory.mktemp("first"), "0-3")


@pytest.fixture
def run(first, tmp_path):
    root = tmp_path / "runs" / first.name
    shutil.copytree(first.layout.root, root)
    return open_run(root)[0]


def store_of(tmp_path):
    return SharedStore(to_location(tmp_path / "store"))


def push(run, tmp_path):
    return supsup("push", run.layout.root, tmp_path / "store", "--quiet")


def pull(run, tmp_path, storage="pulled"):
    code = supsup("pull", run.name, tmp_path / "store", "--storage", tmp_path / storage, "--quiet")
    return code, tmp_path / storage / run.name


def test_what_is_pulled_is_the_bank_and_goes_on_as_the_run(run, tmp_path, capsys):
    assert push(run, tmp_path) == 0
    code, root = pull(run, tmp_path)
    assert code == 0
    pulled = open_run(root)[0]
    assert digests(pulled) == digests(run)
    assert tables(root) == tables(run.layout.root)
    assert supsup("verify", root) == 1, "two tasks are missing, as in the run that was pushed"
    assert supsup("run", root, "--quiet") == 0
    assert sorted(pulled.store.locate()) == [0, 1, 2, 3, 4, 5]


def test_a_bank_that_has_grown_sends_only_what_is_new(run, tmp_path, capsys):
    assert push(run, tmp_path) == 0
    store = store_of(tmp_path)
    before = set(store.sizes)
    assert push(run, tmp_path) == 0
    assert set(store_of(tmp_path).sizes) == before
    assert supsup("run", run.layout.root, "--quiet") == 0
    capsys.readouterr()
    assert supsup("push", run.layout.root, tmp_path / "store") == 0
    sent = int(re.search(r"sent (\d+) files", capsys.readouterr().out)[1])
    after = store_of(tmp_path)
    named = {file.path: file.sha256 for file in after.manifest(run.name).files}
    new = {path for path, sha256 in named.items() if sha256 not in before}
    assert new == {"BANK.md", "masks/cohort-00004-00005.parquet", "report/summary.json"} | {
        f"evaluations/{kind}-6.parquet" for kind in ("GG", "GNu-one_shot-G-1")
    }
    assert sent == len(new)
    assert set(after.sizes) == set(named.values()), "what only the old list named is gone"


def test_pulling_again_fetches_only_what_is_new(run, tmp_path, capsys):
    assert push(run, tmp_path) == 0
    root = pull(run, tmp_path)[1]
    masks = root / "masks" / "cohort-00000-00001.parquet"
    written_ns = masks.stat().st_mtime_ns
    assert supsup("run", run.layout.root, "--quiet") == 0
    assert push(run, tmp_path) == 0
    assert pull(run, tmp_path)[0] == 0
    assert digests(open_run(root)[0]) == digests(run)
    assert masks.stat().st_mtime_ns == written_ns
    assert supsup("verify", root) == 0
    assert tables(root) == tables(run.layout.root)


def test_a_push_that_is_killed_leaves_the_old_bank_and_the_next_one_finishes(run, tmp_path, monkeypatch):
    assert push(run, tmp_path) == 0
    old = digests(run)
    assert supsup("run", run.layout.root, "--quiet") == 0
    stored, put = [], SharedStore.put

    def dying(self, file, content):
        if len(stored) == 2:
            raise OSError(5, "the line is dead")
        stored.append(file)
        put(self, file, content)

    with monkeypatch.context() as patch:
        patch.setattr(SharedStore, "put", dying)
        assert push(run, tmp_path) == 1
    code, root = pull(run, tmp_path)
    assert (code, digests(open_run(root)[0])) == (0, old)
    objects = {path: path.stat().st_mtime_ns for path in store_of(tmp_path).objects.iterdir()}
    assert push(run, tmp_path) == 0
    assert all(objects[store_of(tmp_path).objects / f.sha256] == (store_of(tmp_path).objects / f.sha256).stat().st_mtime_ns for f in stored)  # fmt: skip
    assert digests(open_run(pull(run, tmp_path, "again")[1])[0]) == digests(run) != old


@pytest.mark.parametrize("how", ["changed", "shorter", "missing"])
def test_a_damaged_object_is_named_and_never_lands_in_the_run_folder(run, tmp_path, how, capsys):
    assert push(run, tmp_path) == 0
    store = store_of(tmp_path)
    (file,) = [
        file for file in store.manifest(run.name).files if file.path.endswith("cohort-00002-00003.parquet")
    ]
    path = store.objects / file.sha256
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content[: -1 if how == "shorter" else None]))
    if how == "missing":
        path.unlink()
    code, root = pull(run, tmp_path)
    assert code == 2
    assert file.sha256 in capsys.readouterr().err
    assert not (root / file.path).exists()
    path.unlink(missing_ok=True)
    assert push(run, tmp_path) == 0
    assert pull(run, tmp_path)[0] == 0
    assert digests(open_run(root)[0]) == digests(run)


def test_a_damaged_mask_here_is_neither_pushed_nor_kept_by_a_pull(run, tmp_path, capsys):
    assert push(run, tmp_path) == 0
    root = pull(run, tmp_path)[1]
    for folder in (run.layout.root, root):
        path = folder / "masks" / "cohort-00000-00001.parquet"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    assert push(run, tmp_path) == 2
    assert "cohort-00000-00001.parquet" in capsys.readouterr().err
    assert pull(run, tmp_path)[0] == 0
    assert len(digests(open_run(root)[0])) == 4


def test_others_work_is_never_replaced(run, tmp_path, capsys):
    other = trained(tmp_path / "b", "2-5")
    assert push(run, tmp_path) == 0
    assert push(other, tmp_path) == 2
    assert "has tasks that" in (error := capsys.readouterr().err)
    assert f"lacks: 0-1; `supsup pull {run.name} {tmp_path / 'store'} --storage" in " ".join(error.split())
    assert pull(run, tmp_path, "b/runs")[0] == 0
    assert push(other, tmp_path) == 0
    assert len(digests(open_run(pull(run, tmp_path)[1])[0])) == 6


def test_other_masks_of_the_same_task_are_a_conflict_in_both_directions(run, tmp_path, capsys):
    assert push(run, tmp_path) == 0
    masks = [*run.store.iterate([0, 1])]
    made = run.store.provenance(run.store.locate()[0])
    run.store.write_cohort(
        [replace(masks[0], bits=bytes([masks[0].bits[0] ^ 1]) + masks[0].bits[1:]), masks[1]], made
    )
    assert push(run, tmp_path) == 2
    assert "has other masks of tasks 0 than" in capsys.readouterr().err
    assert pull(run, tmp_path, "runs")[0] == 2
    assert "has other masks of tasks 0 than" in capsys.readouterr().err


def test_what_is_forgotten_goes_from_the_store_with_the_next_push_and_is_told_to_those_who_pull(
    run, tmp_path, capsys
):
    assert push(run, tmp_path) == 0
    root = pull(run, tmp_path)[1]
    (stored,) = run.store.iterate([2])
    assert supsup("forget", run.layout.root, "--task", 2, "--quiet") == 0
    assert not run.layout.card.exists()
    assert pull(run, tmp_path, "runs")[0] == 2
    assert push(run, tmp_path) == 0
    found = [path for path in store_of(tmp_path).objects.iterdir() if stored.bits[:24] in path.read_bytes()]
    assert found == []
    capsys.readouterr()
    assert supsup("pull", run.name, tmp_path / "store", "--storage", root.parent) == 0
    assert f"task 2 was forgotten there; `supsup forget {root} --task 2` removes" in " ".join(
        capsys.readouterr().out.split()
    )
    assert 2 not in open_run(root)[0].store.locate()
    assert supsup("push", root, tmp_path / "store") == 2, "its mask is still in a file"
    assert supsup("forget", root, "--task", 2, "--quiet") == 0
    assert supsup("push", root, tmp_path / "store") == 0


def test_a_bank_that_is_not_there_is_named_with_those_that_are(run, tmp_path, capsys):
    assert push(run, tmp_path) == 0
    assert supsup("pull", "other-01234567", tmp_path / "store", "--storage", tmp_path / "pulled") == 2
    assert f"no such bank in {tmp_path / 'store'}; banks there: {run.name}" in capsys.readouterr().err
    assert not (tmp_path / "pulled").exists()


@pytest.mark.parametrize(
    "path", ["../outside.json", "/etc/x", "masks/../../x", ".lock", "masks/.x", "report/config.yaml"]
)
def test_a_list_of_files_cannot_reach_out_of_the_run_folder(run, tmp_path, path, capsys):
    assert push(run, tmp_path) == 0
    manifest = store_of(tmp_path).manifest_path(run.name)
    content = json.loads(manifest.read_text())
    content["files"][0]["path"] = path
    manifest.write_text(json.dumps(content))
    assert pull(run, tmp_path)[0] == 2
    assert "expected a file of a run" in capsys.readouterr().err
    assert not (tmp_path / "pulled").exists()


@pytest.mark.parametrize("rule", ["", "top_k"])
def test_the_card_says_what_the_bank_is_and_its_lines_read_a_mask(tmp_path, rule):
    changes = {"mask": "{rule: top_k, density: 0.1}"} if rule else {}
    run = trained(tmp_path, "0-3", **changes)
    assert push(run, tmp_path) == 0
    card = run.layout.card.read_text()
    for words in (run.fingerprint, run.identity.network["digest"], "synthetic, sha256 `", "4 tasks: 0-3", "| GNu | one_shot-G-1 | 4 |", "made by this code"):  # fmt: skip
        assert words in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(code.splitlines()) == (6 if rule else 5)
    code += "import sys; np.savez(sys.argv[1], **masks)\n"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "masks.npz")], cwd=run.layout.root, check=True)
    (stored,) = run.store.iterate([0])
    found = np.load(tmp_path / "masks.npz")
    packed = b"".join(np.packbits(found[name], bitorder="little").tobytes() for name in run.identity.names)
    assert packed == stored.bits
    written_ns = run.layout.card.stat().st_mtime_ns
    assert push(run, tmp_path) == 0
    assert run.layout.card.stat().st_mtime_ns == written_ns


def test_an_object_is_what_its_name_says(tmp_path):
    store, file = store_of(tmp_path), SharedFile.of("run.json", b"{}")
    store.put(file, b"{}")
    assert store_of(tmp_path).get(file) == b"{}"
    with pytest.raises(DamagedFileError, match="is damaged"):
        store.get(replace(file, num_bytes=3))


def test_a_bank_in_an_object_store_is_pushed_pulled_and_forgotten_from(
    run, tmp_path, s3_storage, monkeypatch, capsys
):
    monkeypatch.setenv("SUPSUP_CACHE", str(tmp_path / "cache"))
    assert supsup("push", run.layout.root, f"{s3_storage}/banks") == 0
    assert supsup("pull", run.name, f"{s3_storage}/banks", "--storage", f"{s3_storage}/runs") == 0
    remote = open_run(to_location(f"{s3_storage}/runs/{run.name}"))[0]
    assert digests(remote) == digests(run)
    assert supsup("evaluate", remote.layout.root, "evaluation.at=[2,4]", "--quiet") == 0
    (stored,) = run.store.iterate([1])
    assert supsup("forget", remote.layout.root, "--task", 1, "--quiet") == 0
    assert sorted(remote.store.locate()) == [0, 2, 3]
    assert not any(stored.bits[:24] in path.read_bytes() for path in remote.layout.masks.iterdir())
    assert supsup("push", remote.layout.root, f"{s3_storage}/banks") == 0
    assert supsup("verify", remote.layout.root) == 1
    assert "3 of 5 masks are good" in capsys.readouterr().out
