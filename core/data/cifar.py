"""Find, download, check and read CIFAR-100, its publisher's binary archive.

A record is a coarse label, a fine label, and the red, green and blue planes of 32 x 32 pixels. The
archive's own checksum (gzip) detects damage. Copies with the same records in another order exist, so
the file is not compared with one digest (``Dataset.digest`` identifies the data of a run).
"""

import gzip
import tarfile
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from core.data.idx import cache_folder, check_data_folder
from core.errors import DataError, first_line

ARCHIVE = "cifar-100-binary.tar.gz"
MIRROR = "https://www.cs.toronto.edu/~kriz/"
MD5 = "03b5dce01913d631647c71ecec9e9cb8"  # of the publisher's archive
RECORD_BYTES = 2 + 3 * 32 * 32
NUM_CLASSES = 100
MAX_BYTES = 2 * 60_000 * RECORD_BYTES  # to unpack: twice what the publisher's archive holds
BLOCK_BYTES = 2**20
PARTS = ("train.bin", "test.bin")
Records = tuple[NDArray[np.uint8], NDArray[np.int64]]


def load_cifar100(folder: Path | None) -> tuple[Records, Records]:
    """Return train and test images, uint8 [N, 3, 32, 32], with fine labels, int64 [N].

    Looks in ``folder`` (and its sub-folder cifar-100-binary), then in the user's cache, then
    downloads into the cache. Raises DataError.
    """
    path = _find(folder)
    try:
        found = _members(path)
        contents = [found[name] for name in PARTS]
    except KeyError as error:
        raise DataError(f"{path} holds no file {error}; fetch it again or remove it") from error
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again or remove it") from error
    return _records(path, contents[0]), _records(path, contents[1])


class _Limited:
    """A stream that ends with an error after ``MAX_BYTES``, whatever the archive announces."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream, self._left = stream, MAX_BYTES

    def read(self, size: int) -> bytes:
        content = self._stream.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"more than {MAX_BYTES:,} bytes when unpacked")
        return content


def _members(path: Path) -> dict[str, bytes]:
    """Return the content of both parts, by name; links and folders are none."""
    found = {}
    with gzip.open(path) as stream:
        limited = cast("IO[bytes]", _Limited(stream))
        with tarfile.open(fileobj=limited, mode="r|") as archive:
            for member in archive:
                name, content = Path(member.name).name, None
                if name in PARTS and member.isfile():
                    content = archive.extractfile(member)
                if content is not None:
                    found[name] = content.read()
        while limited.read(BLOCK_BYTES):  # to the end, where gzip compares its checksum
            pass
    return found


def _find(folder: Path | None) -> Path:
    check_data_folder(folder, "cifar100")
    locations = [] if folder is None else [folder / "cifar-100-binary", folder]
    for location in [*locations, cache_folder("cifar100")]:
        if (location / ARCHIVE).is_file():
            return location / ARCHIVE
    return _download(folder)


def _download(folder: Path | None) -> Path:
    import pooch

    try:
        fetched = pooch.retrieve(
            MIRROR + ARCHIVE,
            known_hash=f"md5:{MD5}",
            fname=ARCHIVE,
            path=cache_folder("cifar100"),
            progressbar=True,
        )
        return Path(fetched)
    # Whatever goes wrong with the mirror or the network, tell the user where to put the file.
    except Exception as error:
        looked = folder / "cifar-100-binary" if folder else "SUPSUP_DATA (not set)"
        raise DataError(
            f"cifar100 was not found in {looked} nor in {cache_folder('cifar100')}, and could not be "
            f"downloaded ({first_line(error)[:120]}). Put {ARCHIVE} into a folder <data>/cifar-100-binary "
            "and set SUPSUP_DATA=<data>"
        ) from error


def _records(path: Path, content: bytes) -> Records:
    if not content or len(content) % RECORD_BYTES:
        raise DataError(
            f"{path}: {len(content)} bytes is not a multiple of {RECORD_BYTES}, the size of a record; "
            "fetch it again or remove it"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 1].astype(np.int64)
    if labels.max() >= NUM_CLASSES:
        raise DataError(f"{path}: found label {labels.max()}, expected 0 to 99; fetch it again or remove it")
    return np.ascontiguousarray(records[:, 2:]).reshape(-1, 3, 32, 32), labels
