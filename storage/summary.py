"""``report/summary.json``: the accuracies of a run, and which masks they were measured on.

Scenarios are its keys. ``made_from`` beside them holds the joint digest of the masks behind each k, and the sha256
of everything else in the file, so that a number edited by hand is not taken for a measured one.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from core.errors import DamagedFileError, first_line
from storage.files import commit_json
from storage.locations import Location, plain_file

MADE_FROM = "made_from"


def write_summary(path: Location, results: Mapping[str, Any], masks: Mapping[str, str]) -> None:
    """Commit the results. masks: by k, the joint digest of the masks they were measured on."""
    made_from = {"masks": dict(masks), "sha256": _digest(results, masks)}
    commit_json(path, {**results, MADE_FROM: made_from})


def read_summary(path: Location) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the results, and by k the joint digest of their masks. Raises DamagedFileError.

    Without ``made_from``, as older versions wrote it, no digest is known.
    """
    try:
        content = json.loads(plain_file(path).read_bytes())
        made_from = content.pop(MADE_FROM, None)
        masks = {} if made_from is None else dict(made_from["masks"])
        is_good = made_from is None or made_from["sha256"] == _digest(content, masks)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"{path} cannot be read: {first_line(error)}") from error
    if not is_good:
        raise DamagedFileError(f"{path}: its numbers do not match its digest, so they were edited")
    return content, masks


def _digest(results: Mapping[str, Any], masks: Mapping[str, str]) -> str:
    text = json.dumps([results, masks], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
