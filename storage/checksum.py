"""A checksum over every byte of a Parquet file, inside that file.

Parquet checks its pages but not its footer, where names, metadata and offsets stand. The
file is first written with a placeholder of the checksum's length as the value of
``supsup.checksum``; the sha256 (hex) of those bytes then takes the placeholder's place.
"""

import hashlib
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import DamagedFileError

KEY = "supsup.checksum"
PLACEHOLDER = "sha256 of this file with these 64 characters where its hex stands".ljust(64, ".")[:64]

# Bits at density 0.5 do not compress; a higher level only costs time.
ZSTD_LEVEL = 3
# Gaps are within 1.02 of the entropy, at level 3 within 1.12 (perf/results); 10 to 90 ms a million weights.
GAPS_ZSTD_LEVEL = 19


def sealed_parquet(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a sealed Parquet file, a row group a row.

    The Arrow schema is left out, Parquet's own suffices.
    """
    sink = pa.BufferOutputStream()
    levels = {name: GAPS_ZSTD_LEVEL if name == "gaps" else ZSTD_LEVEL for name in table.column_names}
    options = {"compression_level": levels, "use_dictionary": False, "write_statistics": False}
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True, store_schema=False, **options
    ) as writer:
        writer.write_table(table, row_group_size=1)
        writer.add_key_value_metadata({**metadata, KEY: PLACEHOLDER})
    return seal(sink.getvalue().to_pybytes())


def decoded(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """Decode what may be damaged; damaged text then fails a comparison instead of raising."""
    items = (metadata or {}).items()
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in items}


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
