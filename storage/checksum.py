"""A checksum of all that a mask file says, since Parquet checks its pages but not its footer."""

import hashlib
import json
from collections.abc import Mapping

import pyarrow as pa


def content_checksum(table: pa.Table, metadata: Mapping[str, str]) -> str:
    """Return the sha256 (hex) over the ``supsup.`` metadata and every column but ``bits``.

    ``bits`` is covered by its digest column. Numbers go in as shortest decimal text.
    """
    own = {
        key: value
        for key, value in metadata.items()
        if key.startswith("supsup.") and key != "supsup.checksum"
    }
    rows = table.drop_columns(["bits"]).to_pylist()
    text = json.dumps([own, rows], sort_keys=True, default=lambda value: value.hex())
    return hashlib.sha256(text.encode()).hexdigest()
