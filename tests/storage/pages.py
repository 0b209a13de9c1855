"""Damage that only the checksum of a Parquet page finds: a wrong checksum over good bytes."""

import zlib
from pathlib import Path

import pyarrow.parquet as pq


def spoil_page_checksum(path: Path, column: str, row_group: int = 0) -> None:
    """Change the checksum of the first data page of a column; its data stay as they are."""
    content, group = path.read_bytes(), pq.ParquetFile(path).metadata.row_group(row_group)
    chunks = (group.column(number) for number in range(group.num_columns))
    (chunk,) = [one for one in chunks if one.path_in_schema == column]
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    start, stop = chunk.data_page_offset, first + chunk.total_compressed_size
    for page in range(start + 8, stop):  # where the header ends is only known by its checksum
        written = _varint(zlib.crc32(content[page:stop]))
        if written in content[start:page]:
            place = content.index(written, start)
            spoiled = bytes([written[0] ^ 2]) + written[1:]  # the lowest bits of the number
            path.write_bytes(content[:place] + spoiled + content[place + len(written) :])
            return
    raise AssertionError(f"found no page checksum of {column}")


def _varint(checksum: int) -> bytes:
    """Return a number as Thrift's compact protocol writes an int32."""
    signed = checksum - 2**32 if checksum >= 2**31 else checksum
    zigzag = (signed << 1) ^ (signed >> 31)
    digits = []
    while zigzag > 127:
        digits.append(zigzag & 127 | 128)
        zigzag >>= 7
    return bytes([*digits, zigzag])
