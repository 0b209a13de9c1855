"""The base class of all specifications: frozen dataclasses, checked when built. No numpy, no torch."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

from core.errors import ConfigError

MAX_TASKS = 1_000_000


def require(ok: bool, key: str, found: object, expected: str) -> None:
    """Raise ConfigError unless ``ok``."""
    if not ok:
        raise ConfigError(f"{key}: found {found!r}, expected {expected}")


def fill_by_kind(spec: Any, section: str, choices: Mapping[str, Mapping[str, Any]]) -> None:
    """Fill in the defaults of the keys of ``spec.kind``. Raises ConfigError on a key of another kind."""
    own = choices[spec.kind]
    for key in sorted({key for keys in choices.values() for key in keys}):
        value = getattr(spec, key)
        if key in own:
            object.__setattr__(spec, key, own[key] if value is None else value)
        elif value is not None:
            raise ConfigError(
                f"{section}.{key}: {section}.kind {spec.kind!r} has no such key; "
                f"remove it, or use one of: {', '.join(sorted(own)) or 'none'}"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    return value.canonical() if isinstance(value, Spec) else value


class Spec:
    """A frozen dataclass read from a mapping with exactly its keys.

    LATER_KEYS: keys added when run folders were already in use, with the value those folders imply.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    LATER_KEYS: ClassVar[Mapping[str, object]] = {}

    def canonical(self) -> dict[str, Any]:
        """Return the keys in use, as plain values ready for JSON; LATER_KEYS at their value are left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]  # every subclass is a dataclass
        return {
            key: _plain(value)
            for key, value in values.items()
            if value is not None and value != self.LATER_KEYS.get(key)
        }
