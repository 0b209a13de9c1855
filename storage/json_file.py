"""Reads JSON files strictly: what is not of the expected form is refused by name, however it is wrong."""

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

from core.errors import DamagedFileError
from storage.locations import Location, plain_file

T = TypeVar("T")

# Of the dataclasses read here: other keys, 1 for 1.0 and NaN are wrong.
STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


def read_json(path: Location, form: type[T]) -> T:
    """Return the content of a JSON file as ``form``. Raises DamagedFileError, or OSError if it cannot be read."""
    from pydantic import ValidationError

    content = plain_file(path).read_bytes()
    try:
        checked: T = _adapter(cast("Hashable", form)).validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedFileError(
            f"{path} cannot be read ({where + ': ' if where else ''}{first['msg']})"
        ) from error
    return checked


@cache
def _adapter(form: Any) -> Any:  # a class, or list[...]
    from pydantic import TypeAdapter  # 0.1 s, and not every process reads such files

    return TypeAdapter(form)
