"""Data sets that have a name: their classes and shapes. No numpy, no torch."""

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
DATASETS = (*NUM_CLASSES, "image_folder")  # those with a name; others are paths of arrays
