"""The checkpoint of a stream without task ids, which stays valid through any crash.

State files (numpy's npz, one per mask) are written first, under new names; ``state.json`` then
lists the current ones with their digests. Files that it does not list are left over from before.
All of these files are removed when the stream has ended and its masks are stored.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from core.errors import DamagedFileError
from storage.checkpoints import Arrays, pack_arrays, remove_files, unpack_arrays
from storage.files import commit_bytes, commit_json
from storage.json_file import read_json
from storage.layout import RunLayout
from storage.locations import listed, plain_file, remove_tree

MASK_STATES = "mask-*.npz"


@dataclass(frozen=True, kw_only=True)
class StateFile:
    """One mask's state. name: of the file. sha256: of its bytes, hex. is_pending: not confirmed."""

    mask: int
    name: str
    sha256: str
    is_pending: bool


@dataclass(frozen=True, kw_only=True)
class StreamPosition:
    """A checkpoint. num_decisions: made so far."""

    fingerprint: str
    num_decisions: int
    files: tuple[StateFile, ...]


def write_mask_state(
    layout: RunLayout, mask: int, num_decisions: int, arrays: Arrays, *, is_pending: bool
) -> StateFile:
    """Commit the state of one mask after ``num_decisions``; it counts from the next position on."""
    content, sha256 = pack_arrays(arrays)
    path = layout.mask_state(mask, num_decisions)
    if is_pending:
        path = path.with_stem(f"{path.stem}-pending")
    commit_bytes(path, content)
    return StateFile(mask=mask, name=path.name, sha256=sha256, is_pending=is_pending)


def read_mask_state(layout: RunLayout, file: StateFile) -> dict[str, NDArray[Any]]:
    """Return the arrays of one state file. Raises DamagedFileError."""
    path = layout.stream / file.name
    try:
        content = plain_file(path).read_bytes()
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DamagedFileError(f"{path}: its bytes do not match its digest in {layout.stream_state.name}")
    return unpack_arrays(content)


def commit_position(layout: RunLayout, position: StreamPosition) -> None:
    """Commit a checkpoint, then remove the state files that it no longer names."""
    commit_json(layout.stream_state, asdict(position))
    remove_files(listed(layout.stream, MASK_STATES), kept={file.name for file in position.files})


def read_position(layout: RunLayout, fingerprint: str) -> StreamPosition | None:
    """Return the last checkpoint, None if there is none. Raises DamagedFileError."""
    path = layout.stream_state
    try:
        position = read_json(path, StreamPosition)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read ({error})") from error
    if position.fingerprint != fingerprint:
        raise DamagedFileError(f"{path} belongs to another run ({position.fingerprint[:8]})")
    return position


def drop_states(layout: RunLayout) -> None:
    """Remove the checkpoint; the decisions stay."""
    layout.stream_state.unlink(missing_ok=True)
    remove_files(listed(layout.stream, MASK_STATES), kept=())


def restart_stream(layout: RunLayout) -> None:
    """Remove all files of the stream, so that it starts again."""
    remove_tree(layout.stream)


def latest(files: Sequence[StateFile]) -> dict[int, StateFile]:
    """Return the confirmed state file of each mask."""
    return {file.mask: file for file in files if not file.is_pending}
