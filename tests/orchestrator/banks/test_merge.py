"""Tasks of one run that were trained in two folders, joined: the bits, tables and answers of one folder."""

import shutil
from dataclasses import replace

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from tests.conftest import supsup, sweep_text

CHANGES = {
    "benchmark": "{kind: permuted, dataset: synthetic, num_tasks: 6}",
    "evaluation": "{scenarios: [GG, GNu], at: [2, 4, 6]}",
}


def trained(folder, tasks="all", **changes):
    """Train some tasks of the tiny sweep with its runs in ``folder``; return the run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(sweep_text(folder / "runs", **(CHANGES | changes)))
    assert supsup("run", path, *([] if tasks == "all" else ["--tasks", tasks]), "--quiet") == 0
    return locate_run(load_sweep(path))


def merged(tmp_path, *runs):
    code = supsup("merge", *(run.layout.root for run in runs), "--out", tmp_path / "merged")
    return code, tmp_path / "merged" / runs[0].name


def digests(run):
    table = run.store.verified_facts().table
    return dict(zip(table["task"].to_pylist(), table["digest"].to_pylist(), strict=True))


def tables(root):
    found = {path.name: path.read_bytes() for path in sorted((root / "evaluations").glob("*.parquet"))}
    return found | {"summary": (root / "report" / "summary.json").read_bytes()}


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize(("mine", "others"), [("0-2", "3-5"), ("1,4", "0,2-3,5"), ("0-3", "2-5")])
def test_two_folders_merged_are_the_bits_and_tables_of_one(tmp_path, one, mine, others, capsys):
    a, b = trained(tmp_path / "a", mine), trained(tmp_path / "b", others)
    assert digests(a).keys() != digests(one).keys()
    code, root = merged(tmp_path, a, b)
    assert code == 0
    assert "has the masks of 6 tasks" in capsys.readouterr().out
    run = replace(a, layout=replace(a.layout, root=root))
    assert digests(run) == digests(one)
    assert supsup("run", root) == 0
    assert "6 tasks done; nothing to train" in capsys.readouterr().out
    assert tables(root) == tables(one.layout.root)
    assert supsup("verify", root) == 0


def test_merging_again_and_into_a_folder_of_the_same_run_changes_nothing(tmp_path):
    a, b = trained(tmp_path / "a", "0-2"), trained(tmp_path / "b", "3-5")
    code, root = merged(tmp_path, a, b)
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    assert (code, merged(tmp_path, a, b)[0]) == (0, 0)
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before


def test_a_conflict_is_named_with_both_digests_and_nothing_is_written(tmp_path, capsys):
    a, b = trained(tmp_path / "a", "0-3"), trained(tmp_path / "b", "2-5")
    first, second = (next(b.store.iterate([task])) for task in (2, 3))
    path = b.store.locate()[2]
    made = b.store.provenance(path)
    changed = bytes([first.bits[0] ^ 1]) + first.bits[1:]
    b.store.write_cohort([replace(first, bits=changed), second], made)
    code, root = merged(tmp_path, a, b)
    assert code == 2
    error = " ".join(capsys.readouterr().err.split())
    mine, others = digests(a)[2], digests(b)[2]
    assert f"1 conflict, so nothing was written: task 2: {mine[:12]}... in {a.layout.root}" in error
    assert f"{others[:12]}... in {b.layout.root}" in error
    assert not root.exists()


def test_another_run_is_refused_with_the_keys_that_differ(tmp_path, capsys):
    a, b = trained(tmp_path / "a", "0"), trained(tmp_path / "b", "1", seed="4")
    assert merged(tmp_path, a, b)[0] == 2
    assert "are different runs, whose masks do not belong together: seed: 3 -> 4" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_a_damaged_mask_is_refused(tmp_path, capsys):
    a, b = trained(tmp_path / "a", "0-2"), trained(tmp_path / "b", "3-5")
    path = b.store.files()[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert merged(tmp_path, a, b)[0] == 2
    assert path.name in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_one_folder_alone_or_without_masks_is_refused(tmp_path, one, capsys):
    assert supsup("merge", one.layout.root, "--out", tmp_path / "merged") == 2
    shutil.copytree(one.layout.root, tmp_path / "copy")
    (tmp_path / "copy" / "run.json").unlink()
    assert supsup("merge", one.layout.root, tmp_path / "copy", "--out", tmp_path / "merged") == 2
    assert "no run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"training": "{steps: 60, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}, transfer: scores}"}, "transfer"),
        ({"baseline": "{kind: psp}", "evaluation": "{scenarios: [GG]}"}, "share their weights"),
    ],
)  # fmt: skip
def test_tasks_that_depend_on_each_other_are_neither_taken_alone_nor_merged(tmp_path, changes, why, capsys):
    folder = tmp_path / "tied"
    run = trained(folder, **changes)
    assert supsup("run", folder / "tiny.yaml", "--tasks", "0-1") == 2
    assert merged(tmp_path, run, run)[0] == 2
    assert capsys.readouterr().err.count(why) == 2


def test_tasks_that_the_sweep_does_not_have_are_refused(tmp_path, sweep, capsys):
    assert supsup("run", sweep, "--tasks", "3-4") == 2
    assert "--tasks: found '3-4', expected tasks from 0 to 3" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_one_folder_has_forgotten_comes_along_or_is_a_conflict(tmp_path, capsys):
    a, b = trained(tmp_path / "a", "0-2"), trained(tmp_path / "b", "3-5")
    assert supsup("forget", a.layout.root, "--task", 1, "--quiet") == 0
    code, root = merged(tmp_path, a, b)
    assert code == 0
    run = replace(a, layout=replace(a.layout, root=root))
    assert sorted(digests(run)) == [0, 2, 3, 4, 5]
    assert supsup("run", root, "--quiet") == 0
    assert sorted(run.store.locate()) == [0, 2, 3, 4, 5]
    capsys.readouterr()
    assert supsup("merge", root, trained(tmp_path / "c", "1").layout.root, "--out", tmp_path / "more") == 2
    assert f"task 1: forgotten in {root}" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "more").exists()
