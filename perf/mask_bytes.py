"""Bytes of random masks on disk by density, compared with their entropy and with 16-bit csc.

python perf/mask_bytes.py: masks of GEM ResNet-18's layers, uniform density, written by the mask
store and read back from its files. Times are medians of five reads of one mask.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from core.masks.bits import pack
from core.networks.base import layers
from core.specs.network import NetworkSpec
from orchestrator.report.mask_sizes import csc_bytes, entropy_bits
from storage.layout import RunLayout
from storage.mask_store import MaskStore, StoreIdentity, TaskMask

DENSITIES = (7 / 8, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 256)
REPEATS = 5


def main() -> None:
    """Print a row per density."""
    found = layers(NetworkSpec(kind="gem_resnet18", outputs=5), (3, 32, 32))
    shapes = [layer.shape for layer in found]
    num_weights = sum(layer.num_weights for layer in found)
    network = {"kind": "gem_resnet18", "seed": 0, "outputs": 5, "digest": "d" * 64}
    identity = StoreIdentity(
        fingerprint="f" * 64, layers=tuple((one.name, one.shape) for one in found), network=network
    )
    print(f"{num_weights:,} weights; bits a weight")
    print("| density | encoding | stored | entropy | stored / entropy | csc-16 | read, ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        store = MaskStore(RunLayout(Path(folder)), identity)
        for task, density in enumerate(DENSITIES):
            draw = np.random.default_rng(task)
            packed = pack([_exact(draw, shape, density) for shape in shapes])
            mask = TaskMask(
                task=task, bits=packed.tobytes(), test_accuracy=0.0, train_loss=0.0, train_seconds=0.0
            )
            store.write_cohort([mask], {"finished_s": 0.0})
            (info,) = store.facts_of(store.locate().holding([task])).infos()
            stored, entropy = 8 * info.num_bytes / num_weights, entropy_bits(info.density)
            csc = 8 * csc_bytes(packed, shapes) / num_weights
            print(
                f"| {density:.4f} | {info.encoding} | {stored:.4f} | {entropy:.4f} | {stored / entropy:.3f} | "
                f"{csc:.3f} | {_read_ms(store, task):.1f} |"
            )


def _exact(draw: np.random.Generator, shape: tuple[int, ...], density: float) -> np.ndarray:
    bits = np.zeros(int(np.prod(shape)), dtype=bool)
    bits[draw.permutation(bits.size)[: round(density * bits.size)]] = True
    return bits.reshape(shape)


def _read_ms(store: MaskStore, task: int) -> float:
    times = []
    for _ in range(REPEATS):
        start_s = time.perf_counter()
        store.read(task)
        times.append(1000 * (time.perf_counter() - start_s))
    return statistics.median(times)


if __name__ == "__main__":
    main()
