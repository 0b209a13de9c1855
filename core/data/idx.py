"""Find, download, check and read MNIST and Fashion-MNIST, their publishers' IDX files.

A file may be gzipped or unpacked, and have any name (``core.data.idx_places``): the sha256 of its unpacked
bytes tells which file of which data set it is, or that it is damaged.
"""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.data.idx_places import FILES, UNPACKED_BYTES, candidates
from core.errors import DataError, first_line

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

# sha256 of the unpacked file and of the published .gz, in the order of FILES.
SHA256 = {
    "mnist": (
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    "fashion_mnist": (
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
}
GZIP_MAGIC = b"\x1f\x8b"
MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}


def load_idx(name: str, folder: Path | None) -> Arrays:
    """Return train images, train labels, test images and test labels, all uint8.

    Looks in ``folder`` (and below it, under other names too), then in the user's cache, then downloads into
    the cache. Raises DataError.
    """
    check_data_folder(folder, name)
    arrays = [
        _parse(*_find(name, index, folder), images="images" in stem) for index, stem in enumerate(FILES)
    ]
    return arrays[0], arrays[1], arrays[2], arrays[3]


def cache_folder(name: str) -> Path:
    """Return the folder of the current user's downloads of this data set."""
    import pooch  # takes a while to import, and only MNIST needs it

    return Path(pooch.os_cache("supsup")) / name


def check_data_folder(folder: Path | None, name: str) -> None:
    """Raise DataError if the user named a folder that does not exist."""
    if folder is not None and not folder.is_dir():
        raise DataError(
            f"the data folder {folder} does not exist; name an existing one with SUPSUP_DATA "
            f"or data_dir, or name none to download {name}"
        )


def _find(name: str, index: int, folder: Path | None) -> tuple[Path, bytes]:
    """Return a file of a data set, and its unpacked content."""
    found = None if folder is None else _first_good(name, index, folder)
    # The cache is located last and only if needed: a machine that has the files needs no pooch.
    found = found or _first_good(name, index, cache_folder(name))
    if found is not None:
        return found
    path = _download(name, index, folder)
    return path, _checked(path, name, index)


def _first_good(name: str, index: int, folder: Path) -> tuple[Path, bytes] | None:
    """Return the first file with the right content, None if there is none.

    Raises DataError if there is a file in its place that is of no data set known here.
    """
    problem = None
    for path in candidates(name, index, folder):
        try:
            return path, _checked(path, name, index)
        except _OtherSetError:
            continue
        except DataError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return None


class _OtherSetError(DataError):
    """A file is a good one, but of another data set."""


def _other_sets(name: str, index: int, folder: Path | None) -> str:
    """Return, as text, which data sets lie in a folder in place of the one asked for; empty if none do."""
    for path in [] if folder is None else candidates(name, index, folder):
        try:
            _checked(path, name, index)
        except DataError as error:
            if isinstance(error, _OtherSetError):
                return f"{error}. "
    return ""


def _download(name: str, index: int, folder: Path | None) -> Path:
    import pooch

    file, problems = f"{FILES[index]}.gz", []
    for mirror in MIRRORS[name]:
        try:
            fetched = pooch.retrieve(
                mirror + file,
                known_hash=f"sha256:{SHA256[name][index][1]}",
                fname=file,
                path=cache_folder(name),
                progressbar=True,
            )
            return Path(fetched)
        # Whatever goes wrong with a mirror or the network, try the next mirror and report them all.
        except Exception as error:
            problems.append(f"{mirror}: {first_line(error)[:120]}")
    wanted = ", ".join(f"{stem}.gz" for stem in FILES)
    raise DataError(
        f"{_other_sets(name, index, folder)}{name} was not found in {folder / name if folder else 'SUPSUP_DATA (not set)'} nor in "
        f"{cache_folder(name)}, and could not be downloaded ({'; '.join(problems)}). "
        f"Put {wanted} into a folder <data>/{name} and set SUPSUP_DATA=<data>"
    )


def _checked(path: Path, name: str, index: int) -> bytes:
    """Return the unpacked content of a file. Raises DataError if it is not file ``index`` of ``name``."""
    content = _unpacked(path, UNPACKED_BYTES[index])
    found = hashlib.sha256(content).hexdigest()
    if found == SHA256[name][index][0]:
        return content
    for other, digests in SHA256.items():
        for stem, (sha256, _) in zip(FILES, digests, strict=True):
            if found == sha256 and other == name:
                raise DataError(f"{path} is {stem} of {name} under another name; give it that name")
            if found == sha256:
                raise _OtherSetError(f"{path.parent} holds {other}, not {name}")
    raise DataError(
        f"{path} is not the published file: its content has sha256 {found[:16]}..., "
        f"expected {SHA256[name][index][0][:16]}...; fetch {name} again, or give another folder"
    )


def _unpacked(path: Path, num_bytes: int) -> bytes:
    """Return a file's unpacked content, at most one byte more than ``num_bytes``. Raises DataError."""
    try:
        with path.open("rb") as file:
            is_packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if is_packed else file as content:
                return content.read(num_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again or remove it") from error


def _parse(path: Path, content: bytes, *, images: bool) -> NDArray[np.uint8]:
    """Read one IDX file: big-endian magic number and sizes, then one byte per value."""
    num_dims = 3 if images else 1
    header = np.frombuffer(content, dtype=">i4", count=1 + num_dims)
    if header[0] != 2048 + num_dims:
        raise DataError(f"{path} has the magic number {header[0]}, expected {2048 + num_dims}")
    shape = tuple(int(size) for size in header[1:])
    return np.frombuffer(content, dtype=np.uint8, offset=4 * (1 + num_dims)).reshape(shape)
