"""A task taken out of a run: nothing of its mask is left, and every other answer is that of a run that never had it."""

import json
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.banks import forget as forgetting
from orchestrator.predict import load_predictor
from orchestrator.runs.run import open_run
from orchestrator.tracking.served import _load_pyfunc
from storage.files import decoded
from storage.tombstone import read_tombstone
from tests.conftest import supsup
from tests.orchestrator.banks.test_merge import tables, trained

TRACKED = {"tracking": "{uri: null, figures: false, also: [tensorboard]}"}


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """Train six tasks in cohorts of two, evaluated at k = 2, 4, 6; also infer once, for the bank."""
    run = trained(tmp_path_factory.mktemp("six"), **TRACKED)
    load_predictor(run.layout.root).infer(np.zeros((1, 6, 6)))
    return run


@pytest.fixture
def run(six, tmp_path):
    """Return a copy of it."""
    root = tmp_path / "runs" / six.name
    shutil.copytree(six.layout.root, root)
    return open_run(root)[0]


def forget(run, task, *options):
    return supsup("forget", run.layout.root, "--task", task, "--quiet", *options)


def contents(root):
    """Yield every file of a folder, and each column of Parquet files and array of npz files as it is unpacked."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        yield path, path.read_bytes()
        if path.suffix == ".parquet":
            for column in pq.read_table(path).to_pydict().items():
                yield path, repr(column).encode() + b"".join(x for x in column[1] if isinstance(x, bytes))
        if path.suffix == ".npy":
            yield path, np.load(path)[:].tobytes()


def holders(root, bits):
    """Return the files that hold a packed mask, or a piece of 16 bytes of it that is not blank."""
    pieces = [bits[i : i + 16] for i in range(0, len(bits) - 16, 16)]
    pieces = [piece for piece in pieces if len(set(piece)) > 4]
    assert len(pieces) > 2
    return {path for path, content in contents(root) if any(piece in content for piece in pieces)}


def images(num=40):
    return np.random.default_rng(0).integers(0, 256, (num, 6, 6)).astype(np.uint8)


def test_nothing_of_the_mask_is_left_in_any_file(run):
    assert supsup("report", run.layout.root) == 0
    (stored,) = run.store.iterate([3])
    digest = run.store.facts().table["digest"].to_pylist()[3]
    before = holders(run.layout.root, stored.bits)
    assert {path.parent.name for path in before} == {"masks", "bank"}, "the search finds what is there"
    (run.layout.quarantine).mkdir()
    for name in ("cohort-00002-00003.parquet.1", "masks-00006-01234567.npy"):
        shutil.copy(max(before), run.layout.quarantine / name)
    kept = run.layout.quarantine / "cohort-00000-00001.parquet"
    shutil.copy(run.store.locate()[0], kept)
    assert forget(run, 3, "--reason", "consent withdrawn") == 0
    assert holders(run.layout.root, stored.bits) == set()
    assert kept.exists()
    tombstone = read_tombstone(run.layout, 3)
    assert (tombstone.task, tombstone.digest, tombstone.reason) == (3, digest, "consent withdrawn")
    naming = {path.name for path, content in contents(run.layout.root) if digest.encode() in content}
    assert naming == {"forgotten-00003.json"}


@pytest.mark.parametrize("task", [0, 3, 5])
def test_masks_tables_and_answers_are_those_of_a_run_that_never_had_the_task(run, tmp_path, task, capsys):
    others = ",".join(str(other) for other in range(6) if other != task)
    never = trained(tmp_path / "never", others, **TRACKED)
    assert forget(never, task) == 0, "a task that was never trained can be forgotten too"
    assert supsup("run", never.layout.root, "--quiet") == 0
    before = {mask.task: mask for mask in run.store.iterate(range(6))}
    assert forget(run, task) == 0
    after = {mask.task: mask for mask in run.store.iterate(run.store.locate())}
    assert after == {other: mask for other, mask in before.items() if other != task}
    assert after == {
        m.task: replace(m, train_seconds=after[m.task].train_seconds) for m in never.store.iterate(after)
    }
    assert tables(run.layout.root) == tables(never.layout.root)
    assert {path.stem for path in run.layout.evaluations.glob("*.parquet")} == {
        f"{kind}-{k}" for kind in ("GG", "GNu-one_shot-G-1") for k in (2, 4, 6)
    }
    mine, theirs = (load_predictor(one.layout.root) for one in (run, never))
    assert mine.infer(images()) == theirs.infer(images())
    assert {c.task for answer in mine.infer(images()) for c in answer.best} == set(after)
    served = _load_pyfunc(str(run.layout.root)).predict(images())
    assert [row["task"] for row in served] == [answer.task for answer in mine.infer(images())]
    for algorithm in ("shortlist", "binary", "exhaustive"):
        setting = f"evaluation.inference.algorithm={algorithm}"
        assert (
            supsup("evaluate", run.layout.root, setting)
            == supsup("evaluate", never.layout.root, setting)
            == 0
        )
    assert tables(run.layout.root) == tables(never.layout.root)
    assert len(tables(run.layout.root)) == 4 * 3 + 3 + 1


def test_answers_with_the_task_given_are_what_they_were(run):
    tasks = [task for task in (0, 1, 2, 4, 5) for _ in range(8)]
    before = load_predictor(run.layout.root).classify(images(), tasks)
    assert forget(run, 3) == 0
    assert load_predictor(run.layout.root).classify(images(), tasks) == before


def test_a_table_over_fewer_tasks_stays_and_the_others_have_no_row_of_it(run):
    stays = run.layout.evaluations / "GNu-one_shot-G-1-2.parquet"
    written_ns = stays.stat().st_mtime_ns
    assert forget(run, 3) == 0
    assert stays.stat().st_mtime_ns == written_ns
    table = pq.read_table(run.layout.evaluations / "GNu-one_shot-G-1-6.parquet")
    assert set(table["task"].to_pylist()) == {0, 1, 2, 4, 5}
    assert set(table["inferred_task"].to_pylist()) <= {0, 1, 2, 4, 5}
    assert decoded(table.schema.metadata)["supsup.k"] == "6"


def test_run_never_trains_it_again_and_status_and_verify_know_it(run, capsys):
    assert forget(run, 3, "--reason", "asked to") == 0
    capsys.readouterr()
    assert supsup("run", run.layout.root) == 0
    shown = capsys.readouterr().out
    assert "1 task was forgotten, and was not trained again: 3" in shown
    assert "5 tasks done; nothing to train" in shown
    assert 3 not in run.store.locate()
    assert supsup("status", run.layout.root, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["num_tasks"], row["num_done"], row["forgotten"], row["state"]) == (5, 5, [3], "finished")
    assert supsup("verify", run.layout.root) == 0
    assert "task 3: forgotten on 2" in (shown := capsys.readouterr().out)
    assert "(asked to)" in shown
    assert supsup("verify", run.layout.root, "--deep") == 0
    assert "5 tasks measured again" in capsys.readouterr().out
    assert supsup("run", run.layout.root, "--tasks", "3") == 2
    assert supsup("export", run.layout.root, "--out", run.layout.root.parent / "out") == 0
    capsys.readouterr()
    assert supsup("export", run.layout.root, "--out", run.layout.root.parent / "out", "--tasks", "3") == 2
    assert "task 3 was forgotten" in capsys.readouterr().err


def test_a_crash_after_the_tombstone_is_found_and_finished(run, monkeypatch, capsys):
    (stored,) = run.store.iterate([3])
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "_rewrite", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        assert forget(run, 3) == 1
    assert 3 not in run.store.locate()
    capsys.readouterr()
    assert supsup("verify", run.layout.root) == 1
    assert "task 3 was forgotten, but its mask is still in" in capsys.readouterr().out
    assert forget(run, 3) == 0
    assert holders(run.layout.root, stored.bits) == set()
    assert supsup("verify", run.layout.root) == 0


def test_two_tasks_of_a_cohort_and_all_of_one_k(run, capsys):
    assert forget(run, "0-1,4") == 0
    assert sorted(run.store.locate()) == [2, 3, 5]
    capsys.readouterr()
    assert supsup("run", run.layout.root) == 0
    assert "GG not evaluated at k = 2: all of its tasks were forgotten: 0-1" in capsys.readouterr().out
    assert load_predictor(run.layout.root).infer(images())[0].task in {2, 3, 5}
    assert {a.task for a in load_predictor(run.layout.root, k=4).infer(images())} <= {2, 3}
    assert supsup("report", run.layout.root) == 0


def test_without_tables_nothing_is_measured(run, capsys):
    assert forget(run, 3, "--no-evaluate") == 0
    assert {path.stem for path in run.layout.evaluations.glob("*.parquet")} == {"GG-2", "GNu-one_shot-G-1-2"}
    assert not run.layout.report.exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"training": "{steps: 60, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}, transfer: scores}"}, "starts from"),
        ({"baseline": "{kind: psp}", "evaluation": "{scenarios: [GG]}"}, "share their weights"),
        ({"network": "{kind: bn_mlp, hidden: [64], outputs: 8}", "training": "{epochs: 1, batch_size: 32, optimizer: {kind: sgd}}", "evaluation": "{scenarios: [GG]}"}, "memory"),
    ],
)  # fmt: skip
def test_where_tasks_depend_on_each_other_it_is_refused_and_nothing_changes(tmp_path, changes, why, capsys):
    run = trained(tmp_path, **changes)
    before = {path: zlib.crc32(path.read_bytes()) for path in run.layout.root.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert forget(run, 1) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert why in error
    assert "so no task can be taken out exactly" in error
    assert {path: zlib.crc32(path.read_bytes()) for path in before} == before


def test_a_task_that_the_run_does_not_have_is_refused(run, capsys):
    assert forget(run, 6) == 2
    assert "--task: found '6', expected tasks from 0 to 5" in capsys.readouterr().err
