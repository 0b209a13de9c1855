"""Where the files of MNIST and Fashion-MNIST may lie: under their publishers' names, or others.

Torchvision, Kaggle and archivers name files and folders in ways of their own. A file's content tells what
it is (``core.data.idx`` compares digests), so anything that by name or size might be it is a candidate.
"""

from collections.abc import Iterator
from pathlib import Path

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# Bytes of the unpacked files, which both data sets share, in the order of FILES.
UNPACKED_BYTES = (47_040_016, 60_008, 7_840_016, 10_008)
# Bytes of the published .gz of both data sets.
PACKED_BYTES = ((9_912_422, 26_421_880), (28_881, 29_515), (1_648_877, 4_422_102), (4_542, 5_148))
MAX_ENTRIES = 1000  # looked at in a folder


def candidates(name: str, index: int, folder: Path) -> Iterator[Path]:
    """Yield the files below ``folder`` that may be file ``index`` of data set ``name``, the likeliest first."""
    homes = dict.fromkeys((folder / name, folder / name.replace("_", "-"), folder, *_named(folder, name)))
    seen: set[Path] = set()
    for home in homes:
        for path in (home / f"{FILES[index]}.gz", home / FILES[index], *_likely(home, index)):
            if path not in seen and path.is_file():
                seen.add(path)
                yield path


def _named(folder: Path, name: str) -> Iterator[Path]:
    """Yield the folders that torchvision and others make: ``raw``, ``MNIST``, ``MNIST/raw``."""
    plain = name.replace("_", "")
    for entry in _entries(folder):
        if "".join(filter(str.isalnum, entry.name.lower())) == plain:
            yield from (entry, entry / "raw")
    yield folder / "raw"


def _likely(home: Path, index: int) -> Iterator[Path]:
    """Yield the entries of a folder that by name or size may be file ``index``, and those of such a folder."""
    stem = FILES[index].partition("-idx")[0]
    for entry in _entries(home):
        if entry.name.lower().startswith(stem):
            yield from _entries(entry) if entry.is_dir() else (entry,)
        elif _size(entry) in (UNPACKED_BYTES[index], *PACKED_BYTES[index]):
            yield entry


def _entries(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in found[:MAX_ENTRIES] if not path.name.startswith(".")]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
