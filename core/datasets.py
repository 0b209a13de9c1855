"""Data sets, kept as the uint8 arrays their publishers released.

digits comes with scikit-learn; MNIST and Fashion-MNIST are IDX files (see
``idx_files``); synthetic is made from a fixed stream, for tests.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.idx_files import load_idx
from core.seeding import stream
from core.specs import NUM_CLASSES

# (scale, mean, std) of each data set; MNIST's as in the paper, the others those of their
# training images, the synthetic one's round numbers.
NORMALISATION = {
    "mnist": (255.0, 0.1307, 0.3081),
    "fashion_mnist": (255.0, 0.2860, 0.3530),
    "digits": (16.0, 0.3055, 0.3762),
    "synthetic": (255.0, 0.5, 0.25),
}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images and labels in file order, never shuffled.

    train_images, test_images: uint8 [N, height, width], 0 .. ``scale``.
    train_labels, test_labels: int64 [N].
    A network sees (pixel / scale - mean) / std.
    """

    name: str
    num_classes: int
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    scale: float
    mean: float
    std: float

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train_images.shape[1], self.train_images.shape[2]

    @property
    def num_inputs(self) -> int:
        """Pixels of a flat image."""
        return self.image_shape[0] * self.image_shape[1]

    @property
    def num_bytes(self) -> int:
        """Bytes of images and labels together."""
        arrays = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return sum(array.nbytes for array in arrays)

    def digest(self) -> str:
        """Return the sha256 of images and labels in the order of the fields, hex."""
        whole = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            whole.update(np.ascontiguousarray(little).data)
        return whole.hexdigest()


def load_dataset(name: str, folder: Path | None = None) -> Dataset:
    """Load a data set by name.

    folder: where the user keeps data sets; None looks in the cache, then downloads.
    Raises DataError when files are missing or damaged.
    """
    if name == "digits":
        return _digits()
    if name == "synthetic":
        return _synthetic()
    train_images, train_labels, test_images, test_labels = load_idx(name, folder)
    return Dataset(
        name=name,
        num_classes=NUM_CLASSES[name],
        train_images=train_images,
        train_labels=train_labels.astype(np.int64),
        test_images=test_images,
        test_labels=test_labels.astype(np.int64),
        **_normalised(name),
    )


def normalisation(name: str) -> tuple[float, float, float]:
    """Return (scale, mean, std): a network sees (pixel / scale - mean) / std."""
    return NORMALISATION[name]


def _normalised(name: str) -> dict[str, float]:
    return dict(zip(("scale", "mean", "std"), NORMALISATION[name], strict=True))


def _digits() -> Dataset:
    """8 x 8 digits, values 0 to 16: the first 1,437 images train, the last 360 test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "the digits data set comes with scikit-learn, which is not installed here; "
            "install it, or use benchmark.dataset: mnist"
        ) from error
    raw = load_digits()
    images, labels = raw.images.astype(np.uint8), raw.target.astype(np.int64)
    return Dataset(
        name="digits",
        num_classes=NUM_CLASSES["digits"],
        train_images=images[:1437],
        train_labels=labels[:1437],
        test_images=images[1437:],
        test_labels=labels[1437:],
        **_normalised("digits"),
    )


def _synthetic() -> Dataset:
    """Four noisy prototypes of 6 x 6 pixels: 512 images train, 200 test; easy to learn."""
    draw = stream(0, "synthetic")
    prototypes = draw.integers(0, 192, size=(4, 6, 6))
    labels = draw.integers(0, 4, size=712)
    images = (prototypes[labels] + draw.integers(0, 64, size=(712, 6, 6))).astype(np.uint8)
    return Dataset(
        name="synthetic",
        num_classes=NUM_CLASSES["synthetic"],
        train_images=images[:512],
        train_labels=labels[:512],
        test_images=images[512:],
        test_labels=labels[512:],
        **_normalised("synthetic"),
    )
