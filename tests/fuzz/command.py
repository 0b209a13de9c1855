"""Our command in this process: its exit code and words, and whether these are those of a refusal or of a bug."""

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import supsup

# What a person should never read: a bug that was caught at the door, or in a job.
FAULT = re.compile(
    r"a bug in supsup|Traceback|\b(Key|Index|Type|Attribute|Value|Assertion|Recursion|Overflow|ZeroDivision|Memory|"
    r"NotImplemented|UnicodeDecode|UnicodeEncode|Runtime|Name|Lookup)Error\b"
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def told(*words: Any, codes: tuple[int, ...] = (0, 1, 2)) -> Ended:
    """Run a command, and check that it ends with one of ``codes`` and no stack trace."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = supsup(*words)
    ended = Ended(code, out.getvalue(), err.getvalue())
    shown = f"`supsup {' '.join(map(str, words))[:300]}` ended with {code}: {(ended.out + ended.err)[-2000:]}"
    assert code in codes, shown
    assert not FAULT.search(ended.out + ended.err), shown
    assert code != 2 or "rror" in ended.err, shown  # a refusal says what it refuses
    return ended


def contents(folder: Path) -> dict[str, bytes | str]:
    """Return what lies in a folder: files by content, all else by kind."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"a link to {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = oct(path.stat().st_mode)
    return found
