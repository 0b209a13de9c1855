"""Arrays with a header, as numpy's npz and never as a pickle: bytes, and back with every check."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import DamagedFileError, ForeignFileError, first_line
from storage.locations import Location

Arrays = Mapping[str, NDArray[Any]]
HEADER = "header"
DIGEST_LETTERS = 16  # of the sha256 of its bytes, that a file's name ends with


def pack_arrays(arrays: Arrays, header: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the bytes of a file, ``header`` in them as JSON, and the digest for its name."""
    sink = io.BytesIO()
    words = np.frombuffer(json.dumps(dict(header), sort_keys=True).encode(), dtype=np.uint8)
    np.savez(sink, **{HEADER: words}, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as its own flag
    content = sink.getvalue()
    return content, hashlib.sha256(content).hexdigest()[:DIGEST_LETTERS]


def read_arrays(path: Location, header: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file whose name ends with the digest of its bytes.

    Raises DamagedFileError, or ForeignFileError where its header is another.
    """
    try:
        content = path.read_bytes()
        if not path.stem.endswith(hashlib.sha256(content).hexdigest()[:DIGEST_LETTERS]):
            raise DamagedFileError(f"{path}: its bytes do not match the digest in its name")
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        found = json.loads(arrays.pop(HEADER).tobytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedFileError(f"{path} cannot be read ({first_line(error)})") from error
    differ = [
        f"{key} {str(found.get(key))[:16]!r}, expected {str(value)[:16]!r}"
        for key, value in header.items()
        if found.get(key) != value
    ]
    if differ:
        raise ForeignFileError(f"{path} is of another run or machine: {'; '.join(differ)}")
    return arrays
