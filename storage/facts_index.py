"""The index of facts, ``facts.parquet``: what the mask files say besides their masks, in one file.

It saves opening every mask file, and is never needed: a row counts only while its file has the name, size
and time of writing that the index noted, so files that are new, replaced or edited since are read themselves.
Nothing about a mask's bits follows from it: whoever reads bits compares them with the digest in their own file.
"""

import time
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import pyarrow as pa

from core.errors import DamagedFileError
from storage.arrow import number_column, numbers, text_column
from storage.files import commit_bytes, read_sealed, sealed_parquet
from storage.layout import RunLayout
from storage.locations import Entry
from storage.mask_facts import FACTS_SCHEMA, KnownFiles, MaskFacts

LEAST_NEW = 64  # files that are not in the index yet, before it is written again
LEAST_SHARE = 1 / 16  # of them among all files, so that the work stays in proportion to the files
# A file that was written less than this before it was listed could be replaced without a change of its time.
SETTLED_NS = 2_000_000_000
INDEX_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("file_bytes", pa.int64(), nullable=False),
        pa.field("file_ns", pa.int64(), nullable=False),
        *FACTS_SCHEMA,
    ]
)


def read_index(layout: RunLayout, identity: Mapping[str, str]) -> KnownFiles:
    """Return the files in the index of a run; none if it is missing, damaged, or of another run.

    identity: the metadata that all mask files of the run carry.
    """
    try:
        table, metadata = read_sealed(layout.facts)
    except DamagedFileError:
        return KnownFiles.of(())
    is_ours = all(metadata.get(key) == value for key, value in identity.items())
    if not is_ours or table.schema != INDEX_SCHEMA:
        return KnownFiles.of(())
    return _known(table)


def keep_index(layout: RunLayout, identity: Mapping[str, str], facts: MaskFacts) -> None:
    """Write the index if enough files were read that it lacks; where that is not possible, do without.

    Of two writers at once, the later one counts, and what it lacks is read again.
    """
    if facts.num_read < max(LEAST_NEW, LEAST_SHARE * len(facts.files.names)):
        return
    now_ns = time.time_ns()
    known = facts.known.among({one for one in facts.known.entries if now_ns - one.written_ns > SETTLED_NS})
    with suppress(OSError):  # a full disk, or somebody else's folder
        commit_bytes(layout.facts, sealed_parquet(_table(known), dict(identity)))


def _table(known: KnownFiles) -> pa.Table:
    sizes = [entry.num_bytes for entry in known.entries], [entry.written_ns for entry in known.entries]
    names = np.repeat(np.array(known.names, dtype=object), known.num_rows)
    columns = [text_column(names.tolist())]
    columns += [number_column(np.repeat(np.array(one, dtype=np.int64), known.num_rows)) for one in sizes]
    return pa.table([*columns, *known.rows.columns], schema=INDEX_SCHEMA)


def _known(table: pa.Table) -> KnownFiles:
    """Return the files of an index, whose rows are together."""
    names = table["file"].combine_chunks().dictionary_encode()
    code_R = numbers(names.indices)
    starts = np.flatnonzero(np.diff(code_R, prepend=-1))
    sizes, times = (numbers(table[name])[starts].tolist() for name in ("file_bytes", "file_ns"))
    words = names.dictionary.take(number_column(code_R[starts])).to_pylist()
    num_rows = np.diff(np.append(starts, len(code_R)))
    return KnownFiles(tuple(map(Entry, words, sizes, times)), num_rows, table.select(FACTS_SCHEMA.names))
