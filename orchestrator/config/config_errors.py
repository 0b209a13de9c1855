"""What pydantic refused, in words for people: the key, what was found, what was expected."""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from core.errors import ConfigError


def explain(error: ValidationError, root: type[Any]) -> Iterator[str]:
    """Yield one line per wrong key of the dataclass ``root``, refusals of one union joined by 'or'."""
    grouped: dict[str, tuple[Any, list[str]]] = {}
    for item in error.errors():
        cause = item.get("ctx", {}).get("error")
        path, hint = _walk(item["loc"], root)
        if isinstance(cause, ConfigError):
            yield str(cause)
        elif item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            yield _unknown_key(item["loc"], root)
        elif item["type"] in ("missing", "missing_argument"):
            yield f"{path}: missing; add it to the sweep file"
        else:
            grouped.setdefault(path, (item["input"], []))[1].append(_expected(item, hint))
    for path, (found, expected) in grouped.items():
        shown = {None: "null", True: "true", False: "false"}.get(found) if _is_word(found) else repr(found)
        yield f"{path}: found {shown}, expected {' or '.join(dict.fromkeys(expected))}"


def _is_word(value: object) -> bool:
    """Tell whether YAML writes ``value`` as null, true or false."""
    return value is None or isinstance(value, bool)


def _expected(item: Any, hint: Any) -> str:
    if item["type"] == "literal_error":
        words = str(item["ctx"]["expected"])
        given = str(item["input"])
        close = difflib.get_close_matches(given, re.findall(r"'([^']*)'", words), n=1)
        return words + (f" (did you mean {close[0]!r}?)" if close else "")
    if dataclasses.is_dataclass(hint):
        return "a mapping of keys"
    known = {
        "int": "a whole number",
        "float": "a number",
        "string": "text",
        "tuple": "a list",
        "none": "null",
    }
    return known.get(item["type"].split("_")[0], str(item["msg"]))


def _walk(loc: tuple[int | str, ...], root: type[Any]) -> tuple[str, Any]:
    """Return the dotted path of ``loc`` without pydantic's union members, and its type."""
    hint: Any = root
    path: list[str] = []
    for part in loc:
        if isinstance(part, int):
            path[-1] += f"[{part}]"
        elif dataclasses.is_dataclass(hint) and part in (hints := typing.get_type_hints(hint)):
            hint = _without_none(hints[part])
            path.append(part)
    return ".".join(path) or "the sweep file", hint


def _unknown_key(loc: tuple[int | str, ...], root: type[Any]) -> str:
    path, hint = _walk(loc[:-1], root)
    keys = [f.name for f in dataclasses.fields(hint)] if dataclasses.is_dataclass(hint) else []
    close = difflib.get_close_matches(str(loc[-1]), keys, n=1)
    help_text = f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(keys)}"
    where = f"{path}.{loc[-1]}" if len(loc) > 1 else str(loc[-1])
    return f"{where}: unknown key; {help_text}"


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint
