"""A checksum over every byte of a mask file, inside that file.

Parquet checks its pages but not its footer, where names, metadata and offsets stand. The
file is first written with a placeholder of the checksum's length as the value of
``supsup.checksum``; the sha256 (hex) of those bytes then takes the placeholder's place.
"""

import hashlib

from core.errors import DamagedFileError

KEY = "supsup.checksum"
PLACEHOLDER = "sha256 of this file with these 64 characters where its hex stands".ljust(64, ".")[:64]


def seal(content: bytes) -> bytes:
    """Put the checksum where the placeholder stands, once."""
    assert content.count(PLACEHOLDER.encode()) == 1, "the placeholder must occur once"
    checksum = hashlib.sha256(content).hexdigest()
    return content.replace(PLACEHOLDER.encode(), checksum.encode())


def check_seal(content: bytes, checksum: str) -> None:
    """Raise DamagedFileError unless ``content`` was sealed with ``checksum``."""
    unsealed = content.replace(checksum.encode(), PLACEHOLDER.encode(), 1) if checksum else content
    if hashlib.sha256(unsealed).hexdigest() != checksum:
        raise DamagedFileError("its bytes do not match its checksum")
