"""What code of the user's may be imported.

The value of ``SUPSUP_ALLOW_CODE`` is 1 for any code, or names what is allowed: the path of a file or folder for what
lies there, or the digest of one import (``core.own_code.files.code_digest``); several are joined by ``:``. No torch.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from core.errors import ConfigError
from core.own_code.files import code_digest, code_file
from core.specs.own_code import OwnCode

ALLOW_CODE = "SUPSUP_ALLOW_CODE"  # the permission to import the user's own code
ANY_CODE = "1"


def permission() -> str:
    """Return what the user allowed: nothing (empty), ``1``, a path, or a digest."""
    given = os.environ.get(ALLOW_CODE, "").strip()
    return "" if given == "0" else given


def code_is_allowed(code: OwnCode) -> bool:
    """Return whether the user allowed importing this. Imports nothing; raises ConfigError."""
    given = permission()
    if given in ("", ANY_CODE):
        return given == ANY_CODE
    return any(_covers(one, code) for one in given.split(os.pathsep) if one)


def _covers(allowed: str, code: OwnCode) -> bool:
    if re.fullmatch(r"[0-9a-fA-F]{64}", allowed):
        return code_digest(code) == allowed.lower()
    return code_file(code).resolve().is_relative_to(Path(allowed).expanduser().resolve())


def allow_code(what: str = ANY_CODE) -> None:
    """Allow it in this process and its children. what: ``1``, or paths and digests."""
    os.environ[ALLOW_CODE] = what


def allow_more(digests: Iterable[str]) -> None:
    """Allow these digests in this process and its children, beside what is allowed already."""
    allow_code(os.pathsep.join([one for one in permission().split(os.pathsep) if one] + sorted(digests)))


def require_allowed(code: OwnCode) -> None:
    """Raise ConfigError if the user's own code must not be imported."""
    if code_is_allowed(code):
        return
    given = permission()
    if not given:
        raise ConfigError(
            f"{code} is your own code, which runs when it is imported; "
            f"allow that with `supsup --allow-code ...` or {ALLOW_CODE}=1"
        )
    raise ConfigError(
        f"{code} is code that you did not allow: {code_file(code)} of digest {code_digest(code)}, but allowed is "
        f"{given}; expected its path or its digest, as in `supsup --allow-code=PATH ...`"
    )
