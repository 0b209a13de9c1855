"""How much a server takes on."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server.

    body_bytes: of a request. request_images: in a request. queue_images: that wait, before others are refused
    with 429. timeout_s: until a request is given up. batch_images: answered together.
    """

    body_bytes: int = 32 * 2**20
    request_images: int = 4096
    queue_images: int = 8192
    timeout_s: float = 30.0
    batch_images: int = 1024
