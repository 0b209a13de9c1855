"""Edits of bytes and of JSON values, as strategies."""

import copy
import json
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import strategies as st

Kind = Literal["flip", "cut", "insert", "overwrite", "remove", "repeat"]
EDGE = 300  # bytes at either end, where headers and footers are


@dataclass(frozen=True)
class Edit:
    """One edit. where: a fraction of the length; or a number of bytes, from the end if negative."""

    kind: Kind
    where: float | int
    content: bytes

    def applied(self, old: bytes) -> bytes:
        """Return the bytes after the edit."""
        at, num = self._position(len(old)), len(self.content)
        head, tail = old[:at], old[at:]
        return {
            "flip": head + bytes(byte ^ (1 << num % 8) for byte in tail[:1]) + tail[1:],
            "cut": head,
            "insert": head + self.content + tail,
            "overwrite": head + self.content + tail[num:],
            "remove": head + tail[num:],
            "repeat": head + tail[:num] + tail,
        }[self.kind]

    def _position(self, length: int) -> int:
        if isinstance(self.where, float):
            return int(self.where * length)
        return min(self.where, length) if self.where >= 0 else max(0, length + self.where)


KINDS = st.sampled_from(("flip", "flip", "cut", "insert", "overwrite", "remove", "repeat"))
PLACES = st.floats(0, 1, allow_nan=False) | st.integers(-EDGE, EDGE)
CONTENTS = st.binary(max_size=16) | st.sampled_from(
    [b"\0" * 64, b"\xff" * 8, b"{", b"null", b"1e999", b"\xe9"]
)
EDITS = st.lists(st.builds(Edit, KINDS, PLACES, CONTENTS), min_size=1, max_size=3)


def edited(content: bytes, edits: list[Edit]) -> bytes:
    """Return the bytes after all edits."""
    for edit in edits:
        content = edit.applied(content)
    return content


NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e308, 0.5])
WORDS = st.text(max_size=12) | st.sampled_from(
    ["", "a/b", "../x", "\0", "\ud800", "[red]", "${x}", "nan", "é" * 300]
)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


REMOVED = "(removed)"  # stands for no value at all


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every value inside a JSON value, itself first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in items for found in paths_of(inner, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a JSON value with another one at ``path``, or, if that is ``REMOVED``, with none there."""
    if not path:
        return new
    changed = copy.deepcopy(value)
    home = changed
    for key in path[:-1]:
        home = home[key]
    if new == REMOVED:
        del home[path[-1]]
    else:
        home[path[-1]] = new
    return changed


def json_text(value: Any) -> bytes:
    """Return JSON as bytes; lone surrogates are escaped, and NaN is written as Python does."""
    return json.dumps(value).encode()
