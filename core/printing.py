"""Text for people that comes from elsewhere: file names, errors, URIs."""

import re
import unicodedata

HARMLESS = "\n\t"
STEERING = ("Cc", "Cf", "Cs")  # control and format characters, and bytes of a name that are no UTF-8
_USER = re.compile(r"(?<=://)[^/?#\s@:]*(:[^/?#\s@]*)?@")
_QUERY = re.compile(
    r"([?&;])(pass\w*|pwd|secret\w*|token|\w*_key|key|sig\w*|credential\w*)=[^&;#\s]*", re.IGNORECASE
)


def printable(text: str) -> str:
    """Return text that neither steers a terminal nor shows a password.

    Control characters are written as in Python's literals, secrets of URIs as ``...``.
    """
    return "".join(
        ascii(char)[1:-1] if unicodedata.category(char) in STEERING and char not in HARMLESS else char
        for char in redacted(text)
    )


def redacted(text: str) -> str:
    """Return text whose URIs show no user, password or other secret."""
    return _QUERY.sub(r"\1\2=...", _USER.sub("...@", text))


def has_secret(uri: str) -> bool:
    """Return whether a URI holds a password or another secret; a user's name alone is none."""
    return without_secret(uri) != uri


def without_secret(uri: str) -> str:
    """Return a URI without password and other secrets, and still with its user."""
    plain = _USER.sub(lambda found: found[0].partition(":")[0].rstrip("@") + "@", uri)
    return _QUERY.sub(r"\1", plain).rstrip("?&;")
