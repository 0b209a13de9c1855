"""Checkpoints: arrays that replace each other, in files named by the digest of their bytes.

A file is numpy's npz, never a pickle, with a JSON header that identifies the run. The newer file is
complete before older ones are removed, so a crash between the two loses nothing. Cohorts in training,
baselines and sums of scores are stored this way; ``stream_state`` packs its arrays here too.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import DamagedFileError, ForeignFileError, RunFolderError, first_line, plural
from storage.files import commit_bytes
from storage.layout import RunLayout
from storage.locations import Location, listed, plain_file

Arrays = Mapping[str, NDArray[Any]]
HEADER = "header"
STEPS = "steps"  # done and in all, in the checkpoint of a job
DIGEST_LETTERS = 16  # of the sha256 of a file's bytes, at the end of its stem


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint. path: of its files, without ``-<digest>``. header: JSON values that a reader must match."""

    path: Location
    header: Mapping[str, Any]

    def files(self) -> list[Location]:
        """Return the files with any digest, sorted; more than one only after a crash."""
        return listed(self.path.parent, self._named("*").name)

    def add(self, arrays: Arrays) -> str:
        """Commit ``arrays`` next to older files; return the name of the new one."""
        content, sha256 = pack_arrays(arrays, self.header)
        path = self._named(sha256[:DIGEST_LETTERS])
        commit_bytes(path, content)
        return path.name

    def write(self, arrays: Arrays) -> None:
        """Commit ``arrays``, then remove the older files."""
        self.remove(kept={self.add(arrays)})

    def read_latest(self) -> tuple[dict[str, NDArray[Any]] | None, list[RunFolderError]]:
        """Return the arrays of the first valid file, or None; and the errors of the files before it."""
        problems: list[RunFolderError] = []
        for path in self.files():
            try:
                return _read(path, self.header), problems
            except (DamagedFileError, ForeignFileError) as error:
                problems.append(error)
        return None, problems

    def remove(self, kept: Collection[str] = ()) -> None:
        """Remove the files, except those named in ``kept``."""
        remove_files(self.files(), kept)

    def _named(self, digest: str) -> Location:
        return self.path.with_stem(f"{self.path.stem}-{digest}")


def saved_steps(path: Location) -> tuple[int, int]:
    """Return how many steps a job's checkpoint has, and of how many; 0 and 0 if it cannot be read."""
    try:
        source = plain_file(path).open("rb") if isinstance(path, Path) else io.BytesIO(path.read_bytes())
        with source as file, np.load(file) as stored:
            done, total = map(int, stored[STEPS])
    # A damaged file raises almost anything.
    except Exception:
        return 0, 0
    return done, total


def write_baseline(layout: RunLayout, num_tasks: int, values: Arrays, fingerprint: str) -> None:
    """Commit a baseline's values after ``num_tasks`` tasks, then remove older ones."""
    checkpoint = _after(num_tasks, layout.baseline_state(num_tasks), fingerprint)
    remove_files(listed(layout.baseline), kept={checkpoint.add(values)})


def read_baseline(layout: RunLayout, fingerprint: str) -> tuple[int, dict[str, NDArray[Any]]]:
    """Return the number of tasks learned, and the values; 0 and no values without a valid file."""
    for num_tasks in sorted(_counts(layout), reverse=True):
        values, _ = _after(num_tasks, layout.baseline_state(num_tasks), fingerprint).read_latest()
        if values is not None:
            return num_tasks, values
    return 0, {}


def num_learned(layout: RunLayout) -> int:
    """Return the number of tasks that a baseline has learned, judging by file names alone."""
    return max(_counts(layout), default=0)


def _counts(layout: RunLayout) -> set[int]:
    found = (re.fullmatch(r"state-(\d+)-[0-9a-f]+\.npz", path.name) for path in listed(layout.baseline))
    return {int(match[1]) for match in found if match}


def write_score_sum(
    layout: RunLayout, num_tasks: int, sums: Sequence[NDArray[np.float64]], fingerprint: str
) -> None:
    """Commit the sum of the scores of the first ``num_tasks`` tasks, float64 per layer.

    Call it before writing the mask file of the last of those tasks, so that the sum exists whenever the
    next task may start. The sum before it is kept: a crash between the two writes loses nothing.
    """
    before, own = (_after(num, layout.score_sum(num), fingerprint) for num in (num_tasks - 1, num_tasks))
    own.add({f"sum{layer}": values for layer, values in enumerate(sums)})
    remove_files(listed(layout.transfer), kept={path.name for path in [*before.files(), *own.files()]})


def read_score_sum(layout: RunLayout, num_tasks: int, fingerprint: str) -> list[NDArray[np.float64]]:
    """Return the sum of the first ``num_tasks`` tasks. Raises RunFolderError if it is missing or damaged."""
    arrays, problems = _after(num_tasks, layout.score_sum(num_tasks), fingerprint).read_latest()
    if problems:
        raise problems[0]
    if arrays is not None:
        return [arrays[f"sum{layer}"] for layer in range(len(arrays))]
    raise RunFolderError(
        f"{layout.transfer} has no sum of the scores of the first {plural(num_tasks, 'task')}, which task {num_tasks} "
        "starts from; scores are kept for the next task only, so start a new run, or use transfer: masks"
    )


def _after(num_tasks: int, path: Location, fingerprint: str) -> Checkpoint:
    return Checkpoint(path, {"fingerprint": fingerprint, "num_tasks": num_tasks})


def remove_files(paths: Collection[Location], kept: Collection[str]) -> None:
    """Remove the files, except those named in ``kept``."""
    for path in paths:
        if path.name not in kept:
            path.unlink(missing_ok=True)


def pack_arrays(arrays: Arrays, header: Mapping[str, Any] | None = None) -> tuple[bytes, str]:
    """Return the bytes of an npz file, with ``header`` (if any) as JSON, and their sha256 in hex."""
    sink = io.BytesIO()
    if header is not None:
        words = np.frombuffer(json.dumps(dict(header), sort_keys=True).encode(), dtype=np.uint8)
        arrays = {HEADER: words, **arrays}
    np.savez(sink, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as its own flag
    content = sink.getvalue()
    return content, hashlib.sha256(content).hexdigest()


def unpack_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file, including its header. Raises ValueError or BadZipFile."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def _read(path: Location, header: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file. Raises DamagedFileError, or ForeignFileError if its header differs."""
    try:
        content = plain_file(path).read_bytes()
        if not path.stem.endswith(hashlib.sha256(content).hexdigest()[:DIGEST_LETTERS]):
            raise DamagedFileError(f"{path}: its bytes do not match the digest in its name")
        arrays = unpack_arrays(content)
        found = json.loads(arrays.pop(HEADER).tobytes())
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise DamagedFileError(f"{path} cannot be read ({first_line(error)})") from error
    differ = [
        f"{key} {str(found.get(key))[:16]!r}, expected {str(value)[:16]!r}"
        for key, value in header.items()
        if found.get(key) != value
    ]
    if differ:
        raise ForeignFileError(f"{path} belongs to another run or machine: {'; '.join(differ)}")
    return arrays
