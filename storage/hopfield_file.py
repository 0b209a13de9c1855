"""A Hopfield memory on disk: Psi and the sums of the stored masks, without the masks themselves.

Parquet with one row per masked layer, zstd and page checksums, sealed like a mask file with a
checksum over every byte (FORMAT.md).
"""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import DamagedFileError, ForeignFileError, first_line
from core.hopfield.memory import HopfieldLayer, HopfieldMemory
from core.specs.inference import HopfieldRule
from storage.files import KEY, check_seal, commit_bytes, decoded, parquet_source, sealed_masks
from storage.layout import RunLayout
from storage.locations import Location, listed, plain_file

MEMORY_FORMAT_VERSION = 1
SCHEMA = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("psi", pa.binary(), nullable=False),
        pa.field("total", pa.binary(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
    ]
)


def write_memory(
    path: Location, memory: HopfieldMemory, names: Sequence[str], *, fingerprint: str, masks_digest: str
) -> None:
    """Commit a memory. masks_digest: joint digest of the stored masks, as in a bank's name."""
    rows = [_row(name, layer) for name, layer in zip(names, memory.layers, strict=True)]
    metadata = {
        "supsup.memory_format_version": str(MEMORY_FORMAT_VERSION),
        "supsup.fingerprint": fingerprint,
        "supsup.rule": memory.rule,
        "supsup.num_masks": str(memory.num_masks),
        "supsup.masks_digest": masks_digest,
    }
    commit_bytes(path, sealed_masks(pa.Table.from_pylist(rows, schema=SCHEMA), metadata))


def read_memory(path: Location, fingerprint: str, names: Sequence[str]) -> HopfieldMemory:
    """Return a memory of the run, verified. Raises DamagedFileError or ForeignFileError."""
    try:
        content = plain_file(path).read_bytes()
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(f"{path} cannot be read: {first_line(error)[:160]}") from error
    metadata = decoded(file.schema_arrow.metadata)
    try:
        check_seal(content, metadata.get(KEY, ""))
    except DamagedFileError as error:
        raise DamagedFileError(f"{path}: {error}") from error
    found = metadata.get("supsup.fingerprint", ""), table["layer"].to_pylist()
    if found != (fingerprint, list(names)) or not file.schema_arrow.equals(SCHEMA):
        raise ForeignFileError(f"{path} is not a Hopfield memory of run {fingerprint[:8]}")
    layers = tuple(_layer(path, row) for row in table.to_pylist())
    rule: HopfieldRule = "hebbian" if metadata["supsup.rule"] == "hebbian" else "storkey"
    return HopfieldMemory(rule, layers, int(metadata["supsup.num_masks"]))


def stored_masks_digest(path: Location) -> str | None:
    """Return the joint digest of the masks in a memory file; None if it cannot be read."""
    return _metadata(path).get("supsup.masks_digest")


def num_remembered(layout: RunLayout, fingerprint: str, bad: Collection[Location] = ()) -> int:
    """Return how many of the first masks the largest memory of a run holds; 0 without any.

    bad: files known to be damaged. Reads only the headers of the others.
    """
    most = 0
    for path in listed(layout.memories, "*.parquet"):
        metadata = {} if path in bad else _metadata(path)
        if metadata.get("supsup.fingerprint") == fingerprint:
            most = max(most, int(metadata["supsup.num_masks"]))
    return most


def _metadata(path: Location) -> dict[str, str]:
    """Return the metadata of a memory file, empty if it cannot be read."""
    try:
        return decoded(pq.ParquetFile(parquet_source(path)).schema_arrow.metadata)
    except (pa.ArrowException, OSError):
        return {}


def _row(name: str, layer: HopfieldLayer) -> dict[str, object]:
    psi = np.ascontiguousarray(layer.psi, dtype="<f4").tobytes()
    total = np.ascontiguousarray(layer.total, dtype="<i4").tobytes()
    digest = hashlib.sha256(psi + total).hexdigest()
    return {"layer": name, "width": len(layer.total), "psi": psi, "total": total, "digest": digest}


def _layer(path: Location, row: dict[str, object]) -> HopfieldLayer:
    psi, total, width = row["psi"], row["total"], row["width"]
    assert isinstance(psi, bytes)
    assert isinstance(total, bytes)
    assert isinstance(width, int)
    if hashlib.sha256(psi + total).hexdigest() != row["digest"] or len(psi) != 4 * width * width:
        raise DamagedFileError(f"{path}: layer {row['layer']} does not match its digest")
    return HopfieldLayer(
        np.frombuffer(psi, dtype="<f4").reshape(width, width).copy(),
        np.frombuffer(total, dtype="<i4").copy(),
    )
