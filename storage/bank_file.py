"""The bank file: the masks of a run laid out for task inference, to be mapped into memory.

A numpy file, uint8 [T, K, 256] (``core.masks.packed_sums``), and after the array a footer: the joint digest of the
masks, and the sha256 of all bytes before it. It is a copy of the mask files in another order, named by their joint
digest: when a run grows, or a mask is trained again with other bits, it becomes another file. Processes on one
machine share its pages; each verifies the bytes once.
"""

import hashlib
import math
import mmap
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import DamagedFileError, RunFolderError, first_line
from core.masks.bits import bits_digest, joint_digest, packed_num_bytes
from core.masks.packed_sums import TILE_BYTES, num_tiles, to_tiles
from storage.files import allocate, commit
from storage.locations import plain_file
from storage.mask_facts import MaskFacts
from storage.mask_files import MaskFiles
from storage.mask_store import MaskStore

CHUNK_MASKS = 512  # masks in memory while a file is written
DIGEST_BYTES = 64  # a sha256 in hex
FOOTER_BYTES = 2 * DIGEST_BYTES


def bank_path(store: MaskStore, facts: MaskFacts) -> Path:
    """Return the path of the bank file of all tasks before the first that lacks its mask, which need not exist.

    Forgotten tasks are not in it. Raises RunFolderError if there is no such task, DamagedFileError or ForeignFileError if a file cannot be read.
    """
    facts.require_good()
    digests = facts.digests
    if not digests.num_masks:
        raise RunFolderError(f"{store.layout.root} has no mask of task 0; run the sweep first")
    return store.layout.bank(digests.num_masks, joint_digest(digests.leading))


def ensure_bank(store: MaskStore) -> Path:
    """Return ``bank_path`` of the masks of now after making the file if it is missing or damaged."""
    facts = store.facts()
    path = bank_path(store, facts)
    make_bank(store, path, facts)
    return path


def make_bank(store: MaskStore, path: Path, facts: MaskFacts | None = None) -> None:
    """Make the bank at ``path`` (from ``bank_path``) unless it is there and good; remove the banks it replaces.

    facts: of the masks, with which a run that has grown takes its earlier masks from the bank of then; None lists
    the masks if they are needed.
    """
    if not _is_good(path, packed_num_bytes(store.identity.shapes)):
        files = store.locate() if facts is None else facts.files
        earlier = _Earlier() if facts is None else _earlier(store, facts.digests.present)
        commit(path, lambda temporary: _write(store, temporary, files, earlier))
    for other in store.layout.banks.glob("masks-*.npy"):
        if other != path:
            other.unlink(missing_ok=True)


def map_bank(path: Path, num_bytes: int) -> NDArray[np.uint8]:
    """Map a bank file of masks of ``num_bytes`` read-only, uint8 [T, K, 256].

    Raises DamagedFileError, also where its bytes do not match its digest, which is checked once per process.
    """
    try:
        tiles = np.load(plain_file(path), mmap_mode="r")
        status = path.stat()
        is_good = _matches_footer(path, status.st_ino, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError, EOFError) as error:
        reason = first_line(error)[:160]
        raise DamagedFileError(
            f"{path} cannot be read ({reason}); delete it, and it will be made again"
        ) from error
    if tiles.ndim != 3 or tiles.shape[::2] != (num_tiles(num_bytes), TILE_BYTES) or tiles.dtype != np.uint8:
        raise DamagedFileError(
            f"{path} is not a bank of masks of {num_bytes} bytes; delete it, and it will be made again"
        )
    if not is_good:
        raise DamagedFileError(
            f"{path}: its bytes do not match its digest; delete it, and it will be made again"
        )
    # A plain view: numpy's memmap class costs time at every slice and adds nothing.
    return np.asarray(tiles)


@lru_cache(maxsize=64)
def _matches_footer(path: Path, inode: int, mtime_ns: int, num_bytes: int) -> bool:
    """Return whether the bytes of a file match its footer. The other arguments tell one version from another."""
    del inode, mtime_ns
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = num_bytes - FOOTER_BYTES
        masks, digest = content[start : start + DIGEST_BYTES], content[start + DIGEST_BYTES :]
        with memoryview(content) as view, view[: start + DIGEST_BYTES] as body:
            is_good = hashlib.sha256(body).hexdigest().encode() == digest
    return is_good and path.stem.endswith(f"-{masks[:8].decode()}")


def _is_good(path: Path, num_bytes: int) -> bool:
    try:
        map_bank(path, num_bytes)
    except DamagedFileError:
        return False
    return True


@dataclass(frozen=True)
class _Earlier:
    """A bank of the first masks, which need not be read again. tiles: None if there is none."""

    tiles: NDArray[np.uint8] | None = None
    digests: tuple[str, ...] = ()


def _earlier(store: MaskStore, present: tuple[str, ...]) -> _Earlier:
    """Return the good bank of the most masks that are still the first ones. present: their digests."""
    for path in sorted(store.layout.banks.glob("masks-*.npy"), reverse=True):
        try:
            tiles = map_bank(path, packed_num_bytes(store.identity.shapes))
        except DamagedFileError:
            continue
        digests = present[: tiles.shape[1]]
        if _footer(path)[:DIGEST_BYTES] == joint_digest(digests):
            return _Earlier(tiles, digests)
    return _Earlier()


def _footer(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-FOOTER_BYTES, os.SEEK_END)
        return file.read().decode()


def _write(store: MaskStore, path: Path, files: MaskFiles, earlier: _Earlier) -> None:
    leading, digests = files.leading, list(earlier.digests)
    num_bytes = packed_num_bytes(store.identity.shapes)
    tiles = _new_array(path, (num_tiles(num_bytes), len(leading), TILE_BYTES))
    if earlier.tiles is not None:
        tiles[:, : len(digests)] = earlier.tiles
    for first in range(len(digests), len(leading), CHUNK_MASKS):
        rows = [*store.iterate_bits(leading[first : first + CHUNK_MASKS], files)]
        tiles[:, first : first + len(rows)] = to_tiles(np.stack(rows))
        digests += [bits_digest(row.tobytes()) for row in rows]
    tiles.flush()
    _append(path, joint_digest(digests))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _append(path, digest)


def _new_array(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Return a new numpy file, mapped. Its space is there: a full disk would otherwise kill the process later."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
    allocate(path, path.stat().st_size + math.prod(shape))
    return np.lib.format.open_memmap(path, mode="r+")


def _append(path: Path, words: str) -> None:
    with path.open("ab") as file:
        file.write(words.encode())
