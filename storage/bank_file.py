"""The bank file: the masks of a run laid out for task inference, to be mapped into memory.

A numpy file, uint8 [T, K, 256] (``core.masks.packed_sums``). It is a copy of the mask files in another
order, named by their joint digest: when a run grows, or a mask is trained again with other bits, it
becomes another file. Processes on one machine share its pages.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import DamagedFileError, RunFolderError, first_line
from core.masks.bits import joint_digest, packed_num_bytes
from core.masks.packed_sums import TILE_BYTES, num_tiles, to_tiles
from storage.files import commit
from storage.mask_store import MaskStore

CHUNK_MASKS = 512  # masks in memory while a file is written


def bank_path(store: MaskStore) -> Path:
    """Return the path of the bank file of all tasks before the first without a mask.

    The file need not exist. Raises RunFolderError if task 0 has no mask.
    """
    digests = leading_digests(store)
    if not digests:
        raise RunFolderError(f"{store.layout.root} has no mask of task 0; run the sweep first")
    return store.layout.bank(len(digests), joint_digest(digests))


def ensure_bank(store: MaskStore) -> Path:
    """Return ``bank_path`` after making the file if it is missing or truncated."""
    path = bank_path(store)
    make_bank(store, path)
    return path


def make_bank(store: MaskStore, path: Path) -> None:
    """Make the bank at ``path`` (from ``bank_path``) unless it exists; remove the banks it replaces."""
    if not _is_whole(path, packed_num_bytes(store.identity.shapes)):
        commit(path, lambda temporary: _write(store, temporary))
    for other in store.layout.banks.glob("masks-*.npy"):
        if other != path:
            other.unlink(missing_ok=True)


def num_leading(store: MaskStore) -> int:
    """Count the tasks before the first without a mask file."""
    locations = store.locate()
    return next((task for task in range(len(locations)) if task not in locations), len(locations))


def map_bank(path: Path, num_bytes: int) -> NDArray[np.uint8]:
    """Map a bank file of masks of ``num_bytes`` read-only, uint8 [T, K, 256]. Raises DamagedFileError."""
    try:
        tiles = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        reason = first_line(error)[:160]
        raise DamagedFileError(
            f"{path} cannot be read ({reason}); delete it, and it will be made again"
        ) from error
    if tiles.ndim != 3 or tiles.shape[::2] != (num_tiles(num_bytes), TILE_BYTES) or tiles.dtype != np.uint8:
        raise DamagedFileError(
            f"{path} is not a bank of masks of {num_bytes} bytes; delete it, and it will be made again"
        )
    # A plain view: numpy's memmap class costs time at every slice and adds nothing.
    return np.asarray(tiles)


def leading_digests(store: MaskStore) -> list[str]:
    """Return the digests of tasks 0, 1, 2 and so on, up to the first that is missing."""
    infos = store.info_table()
    tasks, digests = infos["task"].to_pylist(), infos["digest"].to_pylist()
    return [digest for i, (task, digest) in enumerate(zip(tasks, digests, strict=True)) if task == i]


def _is_whole(path: Path, num_bytes: int) -> bool:
    try:
        map_bank(path, num_bytes)
    except DamagedFileError:
        return False
    return True


def _write(store: MaskStore, path: Path) -> None:
    num_tasks = num_leading(store)
    num_bytes = packed_num_bytes(store.identity.shapes)
    shape = (num_tiles(num_bytes), num_tasks, TILE_BYTES)
    tiles = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for first in range(0, num_tasks, CHUNK_MASKS):
        tasks = range(first, min(first + CHUNK_MASKS, num_tasks))
        rows = [np.frombuffer(mask.bits, dtype=np.uint8) for mask in store.iterate(tasks)]
        tiles[:, first : first + len(rows)] = to_tiles(np.stack(rows))
    tiles.flush()
