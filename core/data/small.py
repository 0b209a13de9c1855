"""Data sets small enough to come with the installation: the digits of scikit-learn, and generated images."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.seeding import stream

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images and labels


def digits() -> tuple[Part, Part]:
    """Return 8 x 8 digits, values 0 to 16: the first 1,437 images to train on, the last 360 to test."""
    rows = _digits_rows()
    images, labels = rows[:, :64].reshape(-1, 8, 8).astype(np.uint8), rows[:, 64].astype(np.int64)
    return (images[:1437], labels[:1437]), (images[1437:], labels[1437:])


def _digits_rows() -> NDArray[np.float64]:
    """Return scikit-learn's digits as [1797, 65]: 64 pixels and the label. Its own import takes a second."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError(
            "the digits data set comes with scikit-learn, which is not installed here; "
            "install it, or use benchmark.dataset: mnist"
        )
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.exists():
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits  # another version, which keeps the file elsewhere

    raw = load_digits()
    return np.column_stack([raw.data, raw.target])


def synthetic() -> tuple[Part, Part]:
    """Return four noisy prototypes of 6 x 6 pixels, easy to learn: 512 training and 200 test images."""
    draw = stream(0, "synthetic")
    prototypes = draw.integers(0, 192, size=(4, 6, 6))
    labels = draw.integers(0, 4, size=712)
    images = (prototypes[labels] + draw.integers(0, 64, size=(712, 6, 6))).astype(np.uint8)
    return (images[:512], labels[:512]), (images[512:], labels[512:])
