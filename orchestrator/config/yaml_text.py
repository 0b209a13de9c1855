"""The text of YAML files, and the numbers in it that YAML reads otherwise than people.

YAML 1.1, which OmegaConf reads, takes 010 for 8 (octal) and 1:30 for 90 (base 60).
"""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from core.errors import ConfigError

MAX_BYTES = 2**20
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
SURPRISING = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


def read_yaml_text(path: Path) -> str:
    """Return the text of a sweep file, in UTF-8, or in UTF-16 with its mark. Raises ConfigError."""
    try:
        _refuse_pipe(path)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"sweep file {path}: {reason}; name a YAML sweep file") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"sweep file {path}: more than {MAX_BYTES:,} bytes; name a YAML sweep file")
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        is_text = b"\0" not in content
        reason = "not UTF-8; save it as UTF-8" if is_text else "not a text file; name a YAML sweep file"
        raise ConfigError(f"sweep file {path}: {reason}") from error


def _refuse_pipe(path: Path) -> None:
    if path.is_fifo():
        raise ConfigError(f"sweep file {path}: a pipe, which is not waited for; name a YAML sweep file")


def surprising_number(node: yaml.Node | None) -> str | None:
    """Return what is wrong with the first number below ``node`` that YAML reads otherwise than people, or None."""
    for scalar in _scalars(node):
        text = scalar.value
        if scalar.tag in NUMBERS and scalar.style is None and SURPRISING.fullmatch(text):
            if text.strip("+-0_") == "" and ":" not in text:
                continue  # zero either way
            read = yaml.safe_load(text)
            base = "base 60" if ":" in text else "octal, for its leading 0"
            return f"found {text}, which YAML reads as {read} ({base}); write {_plain(text, read)}, or quote a text"
    return None


def _plain(text: str, read: object) -> str:
    decimal = re.sub(r"^([-+]?)[0_]+", r"\1", text)
    return str(read) if ":" in text else f"{decimal} or {read}"


def _scalars(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Yield the scalars below a node, each node once, however often it is referred to."""
    left, seen = [node], set[int]()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, yaml.ScalarNode):
            yield one
        elif isinstance(one, yaml.SequenceNode):
            left += reversed(one.value)
        elif isinstance(one, yaml.MappingNode):
            left += [part for pair in reversed(one.value) for part in reversed(pair)]
