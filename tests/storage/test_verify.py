"""verify names what is bad; quarantine moves it and deletes nothing."""

import hashlib
import shutil

import pytest

from storage.layout import TableKey
from storage.summary import write_summary
from storage.tables import given_table, write_evaluation, write_table
from storage.verify import quarantine, verify_masks
from storage.verify_derived import DerivedFiles
from tests.storage.conftest import IDENTITY, PROVENANCE, task_mask


def test_a_clean_store(store):
    findings = verify_masks(store)
    assert findings.tasks == set(range(5))
    assert findings.problems == ()
    assert findings.provenances == (("eager", "cpu", "2.13.0"),)
    assert [problem.message for problem in findings.missing(range(7))] == [
        "task 5: missing",
        "task 6: missing",
    ]


def test_each_bad_thing_is_named_with_its_kind(store):
    first, second = store.files()
    content = bytearray(first.read_bytes())
    content[10] ^= 4
    first.write_bytes(bytes(content))
    second.write_bytes(second.read_bytes()[:-1])
    stray = store.layout.masks / "notes.txt"
    stray.write_text("hello")
    wrong_name = shutil.copyfile(store.files()[0], store.layout.cohort(7, 9))
    findings = verify_masks(store)
    found = {(problem.kind, problem.path) for problem in findings.problems}
    assert found == {("damaged", first), ("damaged", second), ("foreign", stray), ("damaged", wrong_name)}
    assert all(problem.path.name in problem.message for problem in findings.problems)
    assert findings.tasks == set()


def test_a_good_file_under_another_tasks_name_is_damaged(store):
    moved = store.layout.cohort(7, 9)
    store.files()[0].rename(moved)
    findings = verify_masks(store)
    assert [p.path for p in findings.problems] == [moved]
    assert "but its name says 7 to 9" in findings.problems[0].message


@pytest.mark.parametrize("other", ["0" * 64, "f" * 64])
def test_files_made_from_other_masks_are_stale(store, other):
    facts, masks = store.facts(), "8" * 64
    files, layout = DerivedFiles(store, facts, lambda _: masks), store.layout
    table = given_table(range(2), {0: [1], 1: [2]}, {0: 3, 1: 3})
    paths = layout.evaluation(TableKey("GG", 2)), layout.evaluation_part(TableKey("one_shot-G-1", 2), 0, 1)
    for path in paths:
        write_evaluation(path, table, {"fingerprint": IDENTITY.fingerprint, "masks": masks})
    write_summary(layout.summary, {"GG": {"2": {"accuracy": 0.5}}}, {"2": masks})
    assert files.problems() == files.stale() == []
    for path in paths:
        write_evaluation(path, table, {"fingerprint": IDENTITY.fingerprint, "masks": other})
    write_summary(layout.summary, {"GG": {"2": {"accuracy": 0.5}}}, {"2": other})
    assert {(p.kind, p.path) for p in files.problems()} == {("stale", p) for p in (*paths, layout.summary)}
    assert {(p.kind, p.path) for p in files.stale()} == {("stale", p) for p in (paths[0], layout.summary)}


def test_report_tables_of_other_masks_are_stale(store):
    facts, layout = store.facts(), store.layout
    files = DerivedFiles(store, facts, facts.digests.joint)
    confusion = layout.confusion(TableKey("one_shot-G-1", 2))

    def write(masks_of_tasks, masks_of_confusion):
        write_table(layout.tasks, facts.info_table(), {"masks": masks_of_tasks})
        write_table(confusion, facts.info_table(), {"masks": masks_of_confusion})

    write(facts.digests.joint(5), facts.digests.joint(2))
    assert files.problems() == []
    write("0" * 64, "0" * 64)
    assert {(p.kind, p.path) for p in files.problems()} == {("stale", layout.tasks), ("stale", confusion)}


def test_a_table_without_a_readable_header_is_damaged(store):
    path = store.layout.evaluation(TableKey("GG", 1))
    path.parent.mkdir()
    path.write_bytes(b"no Parquet")
    (problem,) = DerivedFiles(store, store.facts(), lambda _: None).stale()
    assert (problem.kind, problem.path) == ("damaged", path)
    assert problem.message.startswith(f"{path} cannot be read")


def test_a_table_of_another_name_or_run_is_damaged(store):
    layout, masks = store.layout, "8" * 64
    files = DerivedFiles(store, store.facts(), lambda _: masks)
    table = given_table(range(1), {0: [1]}, {0: 3})
    names = "notes.parquet", "GG-1.txt"
    for name in names:
        path = layout.evaluations / name
        write_evaluation(path, table, {"fingerprint": IDENTITY.fingerprint, "masks": masks})
    assert {(p.kind, p.path.name) for p in files.problems()} == {("damaged", name) for name in names}
    foreign = layout.evaluation(TableKey("GG", 1))
    write_evaluation(foreign, table, {"fingerprint": "e" * 64, "masks": masks})
    assert foreign in {p.path for p in files.stale() if p.kind == "damaged"}


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\xff"])
def test_records_that_are_no_json_and_checkpoints_of_other_bytes_are_damaged(store, text):
    layout = store.layout
    files = DerivedFiles(store, store.facts(), lambda _: None)
    records = [layout.failures, layout.sessions, layout.system]
    for path in records:
        path.write_text(text, encoding="latin-1")
    bad = layout.saves / "cohort-00000-00001-0123456789abcdef.npz"
    good = layout.transfer / f"scores-00001-{hashlib.sha256(b'x').hexdigest()[:16]}.npz"
    for path in (bad, good):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert {(p.kind, p.path) for p in files.problems()} == {("damaged", path) for path in (*records, bad)}


def test_a_memory_that_cannot_be_read_is_damaged(store):
    path = store.layout.memory("storkey", 3)
    path.parent.mkdir()
    path.write_bytes(b"no Parquet")
    assert [(p.kind, p.path) for p in verify_masks(store).problems] == [("damaged", path)]
    assert verify_masks(store, quick=True).problems == ()


def test_quarantine_keeps_every_bad_file_even_of_the_same_name(store):
    first, _ = store.files()
    for number in range(2):
        first.write_bytes(b"bad %d" % number)
        moved = quarantine(store, verify_masks(store).problems)
        assert len(moved) == 1
    assert sorted(p.read_bytes() for p in store.layout.quarantine.iterdir()) == [b"bad 0", b"bad 1"]
    assert verify_masks(store).problems == ()


def test_masks_of_two_engines_are_a_mixed_run(store):
    store.write_cohort([task_mask(5)], {**PROVENANCE, "engine": "compiled"})
    assert len(verify_masks(store).provenances) == 2


def test_a_file_that_says_less_of_its_engine_makes_no_mixed_run(store):
    store.write_cohort([task_mask(5)], {**PROVENANCE, "instructions": "AVX2"})
    assert verify_masks(store).provenances == (("eager", "cpu", "2.13.0", "AVX2"),)
