"""Generates the reference of sweep-file keys: ``python -m orchestrator.config.reference``.

The meaning of a key comes from the docstring of its class, after ``key:``; its values and default come
from the field.
"""

import dataclasses
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from orchestrator.config.sweep import SweepConfig

HEAD = """# Keys of a sweep file

Generated from the configuration classes by `python -m orchestrator.config.reference`. Any key can be set on
the command line by its full dotted name: `supsup run SWEEP.yaml training.optimizer.lr=1.0e-3`. Unknown keys
are errors. *Default* is the value of a key that is left out. A default of `null` often means that the value
depends on another key, as the text explains.
"""
TYPES = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true, false",
    type(None): "null",
    Any: "any",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
    """One row of the reference."""

    name: str
    values: str
    default: str
    meaning: str


def reference() -> str:
    """Return the whole reference as Markdown."""
    parts = [HEAD]
    for section, spec in _sections("", SweepConfig):
        first = (inspect.getdoc(spec) or "").split("\n\n")[0].replace("\n", " ")
        title = f"## `{section}`" if section else "## The top of the file"
        rows = [f"| `{k.name}` | {k.values} | {k.default} | {k.meaning} |" for k in section_keys(spec)]
        table = ["| key | values | default | meaning |", "| --- | --- | --- | --- |", *rows]
        parts.append("\n".join([title, "", _markdown(first), "", *table]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def section_keys(spec: type) -> list[Key]:
    """Return the keys of a class in the order of its fields, without nested sections."""
    hints, meanings = typing.get_type_hints(spec), _meanings(spec)
    return [
        Key(
            name=field.name,
            values=_values(hints[field.name]),
            default=_default(field),
            meaning=_markdown(meanings.get(field.name, "")),
        )
        for field in dataclasses.fields(spec)
        if _nested(hints[field.name]) is None
    ]


def _sections(prefix: str, spec: type) -> Iterator[tuple[str, type]]:
    yield prefix, spec
    hints = typing.get_type_hints(spec)
    for field in dataclasses.fields(spec):
        nested = _nested(hints[field.name])
        if nested is not None:
            yield from _sections(f"{prefix}.{field.name}".lstrip("."), nested)


def _nested(hint: Any) -> type | None:
    """Return the class of a nested section, None for a plain key."""
    if dataclasses.is_dataclass(hint):
        return typing.cast(type, hint)
    return next(filter(None, map(_nested, typing.get_args(hint))), None)


def _values(hint: Any) -> str:
    """Return the allowed values of a type, as text."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return ", ".join(_values(one) for one in arguments)
    if origin is tuple:
        return f"list of: {_values(arguments[0])}"
    if origin is not None:
        return f"mapping to: {_values(arguments[-1])}"
    return TYPES.get(hint, getattr(hint, "__name__", str(hint)))


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "must be given"
    if field.default == "":
        return "none"
    value = None if field.default is dataclasses.MISSING else field.default
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _meanings(spec: type) -> dict[str, str]:
    """Return the meaning of each key; the docstring of a class overrides those of its bases."""
    found: dict[str, str] = {}
    for one in spec.__mro__:
        if dataclasses.is_dataclass(one):
            names = [field.name for field in dataclasses.fields(one)]
            found = _parse(one.__doc__ or "", names) | found
    return found


def _parse(text: str, names: list[str]) -> dict[str, str]:
    """Split a docstring at each ``key:`` or ``key, key:`` that begins a paragraph or a sentence."""
    one = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    cut = re.compile(rf"(?:^|(?<=[.\n])\s+|(?<=\n))((?:{one})(?:, (?:{one}))*): ")
    matches = list(cut.finditer(text))
    ends = [*(match.start() for match in matches), len(text)][1:]
    found: dict[str, str] = {}
    for match, end in zip(matches, ends, strict=True):
        meaning = " ".join(text[match.end() : end].split())
        found |= dict.fromkeys(match[1].split(", "), meaning)
    return found


def _markdown(text: str) -> str:
    """Convert a docstring to Markdown for a table cell; sweep files write None as null."""
    return re.sub(r"\bNone\b", "`null`", text.replace("``", "`").replace("|", "\\|"))


if __name__ == "__main__":
    sys.stdout.write(reference())
