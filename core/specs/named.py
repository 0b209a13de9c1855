"""Data sets that have a name: their classes and shapes; how others are named. No numpy, no torch."""

from core.specs.own_code import DATASETS as GROUP
from core.specs.own_code import code_path

NUM_CLASSES = {"digits": 10, "mnist": 10, "fashion_mnist": 10, "synthetic": 4, "cifar100": 100}
# Height and width, or channels, height and width.
IMAGE_SHAPES: dict[str, tuple[int, ...]] = {
    "digits": (8, 8),
    "mnist": (28, 28),
    "fashion_mnist": (28, 28),
    "synthetic": (6, 6),
    "cifar100": (3, 32, 32),
}
COLOURED = ("cifar100", "image_folder")  # natural images: by default shuffled, local labels, augmented
DATASETS = (*NUM_CLASSES, "image_folder")  # those with a name; others are the user's own


def is_own_dataset(name: str) -> bool:
    """Return whether a data set is the user's own: the path of arrays, or made by her own code."""
    return is_path(name) or code_of_dataset(name) is not None


def is_path(name: str) -> bool:
    """Return whether a data set is named by the path of arrays."""
    return name.endswith(".npz") or "/" in name


def code_of_dataset(name: str) -> str | None:
    """Return the import path of the code that makes a data set, None if it is another kind."""
    return None if not name or name in DATASETS or is_path(name) else code_path(name, GROUP)
