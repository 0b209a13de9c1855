"""URIs of stores, as sweep files and command lines give them."""

from pathlib import Path

from core.errors import ConfigError
from storage.locations import utf8_path


def chosen_store(name: str, asked: str | None, configured: str | None) -> str:
    """Return the absolute URI of the requested store, else of the run's own. Raises ConfigError.

    name: of the run. configured: its ``tracking.uri``.
    """
    uri = asked or configured
    if uri is None:
        raise ConfigError(f"{name}: found tracking.uri null, expected a store; name one with --uri")
    return absolute_uri(uri)


def absolute_uri(uri: str) -> str:
    """Return the URI with an absolute path, if it is a SQLite URI. Raises ConfigError."""
    if not uri.startswith("sqlite:///"):
        return uri
    path = Path(uri.removeprefix("sqlite:///")).expanduser().absolute()
    return f"sqlite:///{utf8_path(path, 'rename the folder, or set tracking.uri')}"


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of an absolute SQLite URI, None for any other URI."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
