"""Bytes per task: as stored, in other encodings, and the lower bound.

The bound is the entropy of independent bits with the density of each layer; a code for single masks
can beat it only if the positions of kept weights are correlated.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.masks.bits import to_gaps, unpack
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import Run
from storage.files import GAPS_ZSTD_LEVEL
from storage.mask_files import MaskFiles
from storage.mask_info import MaskInfo

MAX_SAMPLED = 3  # tasks encoded in every way, in up to a second each
HEADS = ("encoding of a task", "bytes", "bits per weight", "x entropy")
# The paper's results on SplitImageNet: ResNet-50, 100 tasks of 10 classes, scenario GG.
PAPER_HEADS = ("paper: SplitImageNet", "accuracy", "all 100 tasks")
PAPER_ROWS = (
    ("upper bound: a model per task", "92.55 %", "10222.81 MB"),
    ("SupSup, densest", "89.58 %", "195.18 MB"),
    ("SupSup", "88.68 %", "100.98 MB"),
    ("SupSup, sparsest", "86.37 %", "65.50 MB"),
    ("BatchE", "81.50 %", "124.99 MB"),
    ("one model", "", "102.23 MB"),
)
PAPER_CAVEAT = (
    "The paper stores masks as csc with 16-bit integers. Its SupSup sizes cannot be reproduced exactly: 2-byte "
    "indices and float32 statistics of batch normalisation for density multipliers 4, 8, 16 give 62.2, 101.8 and "
    "180.4 MB, with column pointers 73.2, 112.8 and 191.4 MB, within 11 % of 65.50, 100.98 and 195.18. 102.23 MB "
    "are the float32 parameters of a ResNet-50 with a 1000-way head. Base weights cost a seed."
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """The mean bytes per task in one encoding. is_stored: whether it is the one in use."""

    encoding: str
    num_bytes: float
    is_stored: bool = False


@dataclass(frozen=True, kw_only=True)
class MaskSizes:
    """Sizes in all encodings; the last is the entropy. num_norm_bytes: of stored running statistics, per mask."""

    encodings: tuple[Size, ...]
    num_weights: int
    num_norm_bytes: float

    @property
    def entropy_bytes(self) -> float:
        """The lower bound."""
        return self.encodings[-1].num_bytes

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return the table rows for ``HEADS``."""
        return [
            (
                size.encoding,
                f"{size.num_bytes:,.0f}",
                f"{8 * size.num_bytes / self.num_weights:.4f}",
                f"{size.num_bytes / self.entropy_bytes:.3f}" if self.entropy_bytes else "-",
            )
            for size in self.encodings
        ]


def is_split_imagenet(config: SweepConfig) -> bool:
    """Return whether the paper's table is about this sweep: tasks of SplitImageNet in a ResNet-50."""
    benchmark = config.benchmark
    is_split = (benchmark.kind, benchmark.dataset) == ("split", "image_folder")
    return is_split and config.network.kind == "resnet50"


def mask_sizes(
    run: Run, infos: Sequence[MaskInfo], sampled: Sequence[int], files: MaskFiles
) -> MaskSizes | None:
    """Return the sizes of a run's masks, None without masks. sampled: tasks to encode in other ways."""
    if not infos or not sampled:
        return None
    shapes = run.identity.shapes
    masks = [*run.store.iterate_bits(sampled[:MAX_SAMPLED], files)]
    num_weights = sum(int(np.prod(shape)) for shape in shapes)
    encoding = Counter(one.encoding for one in infos).most_common(1)[0][0]
    codec = pa.Codec("zstd", compression_level=GAPS_ZSTD_LEVEL)
    encodings = (
        Size(encoding="float32 weights", num_bytes=4 * num_weights),
        Size(encoding="csc, 16-bit integers", num_bytes=_mean([csc_bytes(mask, shapes) for mask in masks])),
        Size(encoding="packed bits", num_bytes=len(masks[0])),
        Size(
            encoding="packed bits, zstd",
            num_bytes=_mean([len(codec.compress(mask.tobytes())) for mask in masks]),
        ),
        Size(
            encoding="gaps, zstd",
            num_bytes=_mean([len(codec.compress(to_gaps(mask, 1).tobytes())) for mask in masks]),
        ),
        Size(
            encoding=f"stored ({encoding})", num_bytes=_mean([one.num_bytes for one in infos]), is_stored=True
        ),
        Size(
            encoding="entropy of the mask", num_bytes=_mean([_entropy_bytes(mask, shapes) for mask in masks])
        ),
    )
    norm_bytes = _mean([one.num_norm_bytes for one in infos]) if run.identity.network.get("norms") else 0.0
    return MaskSizes(encodings=encodings, num_weights=num_weights, num_norm_bytes=norm_bytes)


def csc_bytes(packed_P: NDArray[np.uint8], shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the bytes of a packed mask as csc: 2 per column pointer and row index. shapes: (out, in, ...)."""
    layers = unpack(packed_P, shapes)
    return sum(2 * (int(layer.sum()) + int(np.prod(layer.shape[1:])) + 1) for layer in layers)


def _entropy_bytes(packed_P: NDArray[np.uint8], shapes: Sequence[tuple[int, ...]]) -> float:
    layers = unpack(packed_P, shapes)
    return sum(layer.size * entropy_bits(float(layer.mean())) for layer in layers) / 8


def entropy_bits(density: float) -> float:
    """Return the entropy of one bit of a mask, in bits."""
    shares = np.array([density, 1 - density])
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
