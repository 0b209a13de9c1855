"""``supsup sign`` and ``supsup verify --key``: a signature over every file of a bank, by the library model-signing.

The files are those that ``push`` sends (``orchestrator.banks.content``), as they are in the run folder; figures, logs and
whatever else a run folder has are not signed, and may change.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from core.errors import ConfigError, first_line
from orchestrator.banks.card import write_card
from orchestrator.banks.content import bank_files, verified_bank
from orchestrator.execution.plan import MAX_RANGES
from orchestrator.runs.lock import locked
from orchestrator.runs.run import Run, open_run
from storage.files import commit_bytes
from storage.locations import Location

PRIVATE = "an elliptic key in PEM without a password, as of `openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem`"
# What is wrong with a file, by the library's words.
DIFFERENCES = {
    "changed": r"Hash mismatch for '([^']+)'",
    "missing": r"Missing files in model '[^']*': ([^'\"]+)",
    "added": r"Extra files found in model '[^']*': ([^'\"]+)",
}
PUBLIC = "its public half in PEM, as of `openssl ec -in KEY.pem -pubout -out PUB.pem`"


def sign_run(root: Location, key: Path) -> int:
    """Sign a run with a private key, after verifying it; return the number of files that ``bank.sig`` covers.

    Raises ConfigError for a key that cannot be used, RunFolderError for a run that does not verify.
    """
    _require_library("sign")
    from model_signing import signing

    try:
        config = signing.Config().use_elliptic_key_signer(private_key=key)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"--key: {key} cannot be used ({first_line(error)[:160]}); expected {PRIVATE}"
        ) from error
    run, record = open_run(root)
    with locked(run.layout):
        facts = verified_bank(run)
        write_card(run, record, facts)
        files = _signed_files(run)
        with _staged(run, files) as folder:
            signature = folder.with_name("bank.sig")
            config.sign(folder, signature)
            commit_bytes(run.layout.signature, signature.read_bytes())
    return len(files)


def signature_problem(root: Location, key: Path) -> str | None:
    """Return what is wrong with the signature of a run by the holder of a public key, None if nothing is.

    Raises ConfigError for a key that cannot be used.
    """
    _require_library("verify --key")
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"--key: {key} cannot be used ({first_line(error)[:160]}); expected {PUBLIC}"
        ) from error
    run, _ = open_run(root)
    if not run.layout.signature.exists():
        return f"{run.layout.signature} is missing: nobody has signed this run, or the signature was removed"
    with _staged(run, _signed_files(run)) as folder:
        signature = folder.with_name("bank.sig")
        signature.write_bytes(run.layout.signature.read_bytes())
        try:
            config.verify(folder, signature)
        except InvalidSignature:
            return f"{run.layout.signature} was not made with the private key of {key}"
        # A signature that was edited raises whatever its parsers raise.
        except Exception as error:
            return f"{run.layout.signature} does not fit: {_difference(error)}"
    return None


def _difference(error: Exception) -> str:
    """Return which files differ by the library's message, which names them between digests as raw bytes."""
    text = str(error).replace("\\'", "'")
    found = [
        f"{word} {name}"
        for word, pattern in DIFFERENCES.items()
        for names in re.findall(pattern, text)
        for name in names.split(", ")
    ]
    more = len(found) - MAX_RANGES
    shown = ", ".join(found[:MAX_RANGES]) + (f" and {more} more" if more > 0 else "")
    return shown or first_line(error)[:160]


def _require_library(command: str) -> None:
    if find_spec("model_signing") is None:
        raise ConfigError(f"{command}: needs the library model-signing: pip install 'supsup[sign]'")


def _signed_files(run: Run) -> dict[str, Location]:
    """Return the files under a signature, by their path in the run folder."""
    files = bank_files(run, run.store.facts())
    files.pop(run.layout.signature.name, None)
    return files


@contextmanager
def _staged(run: Run, files: Mapping[str, Location]) -> Iterator[Path]:
    """Yield a folder, in a temporary one of its own, that has these files and no others."""
    with tempfile.TemporaryDirectory(prefix="supsup-") as temporary:
        folder = Path(temporary) / run.name
        for path, source in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _take(source, target)
        yield folder


def _take(source: Location, target: Path) -> None:
    """Link a file of this file system, copy any other."""
    if not isinstance(source, Path):
        target.write_bytes(source.read_bytes())
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
