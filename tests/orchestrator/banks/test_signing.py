"""A signed bank: every change of a file, every file more or less, and every other key is found."""

import shutil
import subprocess
import sys

import pytest

from orchestrator.runs.run import open_run
from tests.conftest import supsup
from tests.orchestrator.banks.test_merge import trained

pytest.importorskip("model_signing", reason="needs pip install 'supsup[sign]'")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Return the paths of two pairs of keys."""
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "theirs"):
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{name}.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture(scope="module")
def signed(tmp_path_factory, keys):
    run = trained(tmp_path_factory.mktemp("signed"))
    assert supsup("sign", run.layout.root, "--key", keys / "mine.pem") == 0
    return run


@pytest.fixture
def run(signed, tmp_path):
    root = tmp_path / "runs" / signed.name
    shutil.copytree(signed.layout.root, root)
    return open_run(root)[0]


def checked(run, keys, name="mine.pub", *options):
    return supsup("verify", run.layout.root, "--key", keys / name, *options)


def test_a_signed_run_verifies_also_when_it_was_pushed_and_pulled_and_drawn(run, keys, tmp_path, capsys):
    assert checked(run, keys) == 0
    assert "the signature is that of" in capsys.readouterr().out
    assert supsup("report", run.layout.root) == 0
    assert supsup("push", run.layout.root, tmp_path / "store") == 0
    assert supsup("pull", run.name, tmp_path / "store", "--storage", tmp_path / "pulled") == 0
    assert supsup("verify", tmp_path / "pulled" / run.name, "--key", keys / "mine.pub") == 0


@pytest.mark.parametrize("what", ["masks/cohort-00002-00003.parquet", "evaluations/GG-4.parquet"])
def test_a_changed_byte_is_found(run, keys, what, capsys):
    path = run.layout.root / what
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert checked(run, keys) == 1
    shown = capsys.readouterr().out
    assert f"does not fit: changed {what}\n" in shown or f"does not fit: missing {what}\n" in shown


@pytest.mark.parametrize(
    ("what", "old", "new"), [("BANK.md", "seed 3", "seed 4"), ("run.json", '"torch": "', '"torch": "9')]
)
def test_what_only_the_signature_covers_is_found_too(run, keys, what, old, new, capsys):
    path = run.layout.root / what
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert supsup("verify", run.layout.root) == 0
    assert checked(run, keys) == 1
    assert f"does not fit: changed {what}\n" in capsys.readouterr().out


def test_a_file_more_and_a_file_less_are_found(run, keys, capsys):
    shutil.copy(run.layout.evaluations / "GG-2.parquet", run.layout.root / "kept.parquet")
    (run.layout.evaluations / "GG-2.parquet").unlink()
    assert checked(run, keys) == 1
    assert "does not fit: missing evaluations/GG-2.parquet\n" in capsys.readouterr().out
    shutil.move(run.layout.root / "kept.parquet", run.layout.evaluations / "GG-2.parquet")
    assert checked(run, keys) == 0
    assert supsup("evaluate", run.layout.root, "evaluation.at=[3]", "--quiet") == 0
    capsys.readouterr()
    assert checked(run, keys) == 1
    assert "added evaluations/GG-3.parquet" in capsys.readouterr().out


def test_a_mask_more_is_found(run, keys, capsys):
    masks = [*run.store.iterate([0])]
    run.store.write_cohort(masks, run.store.provenance(run.store.locate()[0]))
    assert supsup("verify", run.layout.root) == 0
    assert checked(run, keys) == 1
    assert "does not fit: added masks/cohort-00000-00000.parquet\n" in capsys.readouterr().out


def test_another_key_and_a_signature_that_is_missing_or_edited_are_found(run, keys, capsys):
    assert checked(run, keys, "theirs.pub") == 1
    assert "signature: " in capsys.readouterr().out
    content = run.layout.signature.read_bytes()
    run.layout.signature.write_bytes(content.replace(b"A", b"B", 1))
    assert checked(run, keys) == 1
    run.layout.signature.unlink()
    capsys.readouterr()
    assert checked(run, keys) == 1
    assert "bank.sig is missing" in capsys.readouterr().out
    assert supsup("sign", run.layout.root, "--key", keys / "theirs.pem") == 0
    assert checked(run, keys, "theirs.pub") == 0


def test_what_is_no_key_is_refused_and_nothing_is_written(run, keys, capsys):
    before = run.layout.signature.read_bytes()
    for key in (keys / "mine.pub", keys / "none.pem", run.layout.run_file):
        assert supsup("sign", run.layout.root, "--key", key) == 2
        assert "openssl ecparam" in " ".join(capsys.readouterr().err.split())
    assert checked(run, keys, "mine.pem") == 2
    assert run.layout.signature.read_bytes() == before


def test_a_run_that_does_not_verify_is_not_signed(run, keys, capsys):
    run.layout.signature.unlink()
    path = run.store.files()[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert supsup("sign", run.layout.root, "--key", keys / "mine.pem") == 2
    assert not run.layout.signature.exists()


def test_the_library_alone_verifies_a_run_folder(run, keys):
    words = ["-m", "model_signing", "verify", "key", run.layout.root, "--signature", run.layout.signature]
    command = [sys.executable, *words, "--public_key", keys / "mine.pub", "--ignore_unsigned_files"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    run.layout.card.write_text("another bank")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_forgetting_removes_the_signature(run, keys):
    assert supsup("forget", run.layout.root, "--task", 1, "--quiet") == 0
    assert not run.layout.signature.exists()
