"""Ray's authentication token, which lets its holder run code on the cluster. Does not import Ray.

Token authentication is on for every Ray started here, and for every client that finds a token.
The token is never printed.
"""

import os
import secrets
from pathlib import Path

from core.errors import ConfigError
from orchestrator.runs.commands import supsup_command

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
HELP = "see docs/cluster.md"


def token_file() -> Path:
    """Return the file in which Ray looks for the token."""
    named = os.environ.get(TOKEN_PATH)
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def use_token_if_any() -> bool:
    """Enable token authentication in this process if a token is found; return whether this call did.

    A RAY_AUTH_MODE set by the user takes precedence.
    """
    if MODE in os.environ or not _token():
        return False
    os.environ[MODE] = "token"
    return True


def token_header() -> list[tuple[str, str]]:
    """Return the metadata of a gRPC request to a cluster; empty without a token."""
    token = _token() if os.environ.get(MODE) == "token" else None
    return [("authorization", f"Bearer {token}")] if token else []


def _token() -> str | None:
    if os.environ.get(TOKEN):
        return os.environ[TOKEN]
    try:
        return token_file().read_text().strip() or None
    except OSError:
        return None


def ensure_token() -> Path:
    """Create the token if it is missing, readable by its owner only; return its file."""
    path = token_file()
    if os.environ.get(TOKEN):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        if path.stat().st_mode & 0o077:  # Ray itself makes it world-readable
            path.chmod(0o600)
    return path


def describe_token() -> str:
    """Create the token if it is missing and return where it is, in words. Raises ConfigError if it is empty."""
    if os.environ.get(TOKEN):
        return f"the token is in the environment variable {TOKEN}"
    existed = token_file().exists()
    path = ensure_token()
    if not _token():
        raise ConfigError(f"{path} is empty; delete it, and `{supsup_command('token')}` creates a token")
    return (
        f"{'the token is in' if existed else 'created a token in'} {path}; copy it to every node, mode 0600"
    )


def is_about_token(error: BaseException) -> bool:
    """Return whether an error of Ray is about a missing or wrong token."""
    text = str(error).lower()
    return (
        type(error).__name__ == "AuthenticationError" or "authentication" in text or "unauthenticated" in text
    )


def token_error(where: str, value: str) -> ConfigError:
    """Return a one-line error in place of Ray's long message."""
    if _token():
        found = f"the token in {token_file()} is not that cluster's"
        if os.environ.get(MODE, "token") != "token":
            found = f"{MODE} is {os.environ[MODE]!r}"
    else:
        found = f"there is no token in {token_file()}"
    return ConfigError(
        f"{where}: the Ray cluster at {value} requires its token, but {found}; copy the head's ~/.ray/auth_token there "
        f"(mode 0600; `{supsup_command('token')}` on the head prints where it is) and leave {MODE} unset or 'token'; {HELP}"
    )
