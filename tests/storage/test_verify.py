"""verify names what is bad; quarantine moves it and deletes nothing."""

import shutil

from storage.verify import quarantine, verify_masks


def test_a_clean_store(store):
    findings = verify_masks(store)
    assert findings.tasks == set(range(5))
    assert findings.problems == ()
    assert findings.provenances == (("eager", "cpu", "2.13.0"),)
    assert [problem.message for problem in findings.missing(7)] == ["task 5: missing", "task 6: missing"]


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


def test_quarantine_keeps_every_bad_file_even_of_the_same_name(store):
    first, _ = store.files()
    for number in range(2):
        first.write_bytes(b"bad %d" % number)
        moved = quarantine(store, verify_masks(store).problems)
        assert len(moved) == 1
    assert sorted(p.read_bytes() for p in store.layout.quarantine.iterdir()) == [b"bad 0", b"bad 1"]
    assert verify_masks(store).problems == ()


def test_masks_of_two_engines_are_a_mixed_run(store):
    from tests.storage.conftest import PROVENANCE, task_mask

    store.write_cohort([task_mask(5)], {**PROVENANCE, "engine": "compiled"})
    assert len(verify_masks(store).provenances) == 2
