"""Who may ask: a bearer token, or this machine alone."""

import hmac
import ipaddress
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.errors import ConfigError

TOKEN = "SUPSUP_SERVE_TOKEN"  # noqa: S105  # the name of a variable
OPEN_PATHS = ("/", "/healthz", "/readyz")  # for probes, and for the page, which asks for the token
Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: Path | None, host: str) -> str | None:
    """Return the token in a file, or else in the environment. Raises ConfigError if one is needed and missing."""
    try:
        found = os.environ.get(TOKEN, "") if path is None else path.read_text()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--token-file: {path} cannot be read: {error}") from error
    token = found.strip()
    if path is not None and not token:
        raise ConfigError(f"--token-file: {path} is empty, expected a token")
    if not token and not is_loopback(host):
        raise ConfigError(
            f"--host: found {host}, which other machines reach; expected a token with it: --token-file FILE, "
            f"or the environment variable {TOKEN}"
        )
    return token or None


@dataclass(frozen=True)
class Guard:
    """An ASGI application that asks for the token before ``app`` is called.

    Without a token, only requests to and from this machine's own names pass, so that no web page of others can ask.
    """

    app: Asgi
    token: str | None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass the request on, or answer 401 or 403."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if self.token is not None:
                if scope["path"] not in OPEN_PATHS and not self._is_known(headers.get(b"authorization", b"")):
                    await _refuse(send, 401, "expected Authorization: Bearer TOKEN")
                    return
            elif not _is_from_here(headers):
                await _refuse(send, 403, "expected a request to localhost, from no other site")
                return
        await self.app(scope, receive, send)

    def _is_known(self, found: bytes) -> bool:
        expected = f"Bearer {self.token}".encode()
        return hmac.compare_digest(found, expected)


def _is_from_here(headers: MutableMapping[bytes, bytes]) -> bool:
    names = [f"//{headers.get(b'host', b'').decode('latin-1')}"]
    if b"origin" in headers:
        names.append(headers[b"origin"].decode("latin-1"))
    try:
        return all(is_loopback(urlsplit(name).hostname or "") for name in names)
    except ValueError:
        return False


async def _refuse(send: Any, status: int, words: str) -> None:
    body = json.dumps({"error": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
