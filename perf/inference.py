"""How fast a task is inferred, beside float stacks under autograd and one read of the bits.

LeNet 300-100 with 500 outputs, 315,200 weights a mask. Six measurements, each printed as
Markdown; those without a run on random masks, which cost what trained ones do:

    python perf/inference.py                        times at 10 to 2500 tasks
    python perf/inference.py --memory 2500          what one inference adds to a bank in memory
    python perf/inference.py --from-disk 20000      a bank mapped from a file
    python perf/inference.py --run RUN --images N   agreement of the shortlist on trained masks
    python perf/inference.py --many 2500            many images, and the task given, beside their peers
    python perf/inference.py --evaluate RUN         CPU time of evaluating tasks at each k of a run's sweep
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import median_seconds

from core.inference.search import infer_each, infer_tasks, search_first
from core.inference.superposition import MaskBank, forward_plain, mask_weights
from core.masks.bits import packed_num_bytes
from core.masks.packed_sums import TILE_BYTES, from_planes, num_tiles, to_tiles
from core.networks.base import base_weights
from core.specs.inference import InferenceSpec
from core.specs.network import NetworkSpec
from orchestrator.runs.record import processor

NETWORK, CLASSES = NetworkSpec(kind="lenet_300_100", outputs=500), 10
KS = (10, 100, 500, 1000, 2500)
REPEATS, ROUNDS = 7, 5
MATVEC_MASKS = 500  # float32: 630 MB
GIVEN_IMAGES = 10
METHODS = {"exact": InferenceSpec(), "shortlist": InferenceSpec(algorithm="shortlist")}


def main() -> None:
    """Run the requested measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--memory", type=int, metavar="MASKS")
    parser.add_argument("--from-disk", type=int, metavar="MASKS")
    parser.add_argument("--many", type=int, metavar="MASKS")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--evaluate", type=Path, metavar="RUN")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--tasks", type=int, default=10, help="that are evaluated at each k")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor()}, torch {torch.__version__}, Python {platform.python_version()}\n")
    if options.from_disk:
        _from_disk(options.from_disk)
    elif options.memory:
        _memory(options.memory)
    elif options.many:
        _many(options.many)
    elif options.evaluate:
        _evaluate(options.evaluate, options.tasks)
    elif options.run:
        _agreement(options.run, options.images)
    else:
        _times()


def _times() -> None:
    num_threads = len(os.sched_getaffinity(0))
    print(
        "| tasks | one image: exact | shortlist | "
        f"exact, {num_threads} threads | shortlist, {num_threads} threads | float stacks, autograd | "
        "read the bits once | 128 images: exact | shortlist |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    tiles = _random_tiles(max(KS))
    for k in KS:
        row = _row(MaskBank(np.ascontiguousarray(tiles[:, :k]), _base()), k, num_threads)
        print(f"| {k} | " + " | ".join(row) + " |", flush=True)


def _row(bank: MaskBank, k: int, num_threads: int) -> list[str]:
    one, many = _images(1), _images(128)
    seconds = []
    for threads in (1, num_threads):
        threaded = MaskBank(bank.tiles, bank.base, threads)
        for spec in METHODS.values():
            search = search_first(spec, threaded, k, num_classes=CLASSES)
            seconds.append(median_seconds(lambda search=search: infer_tasks(search, one), REPEATS))
    seconds.append(median_seconds(_float_stacks(bank, one[0]), 3))
    seconds.append(median_seconds(lambda: bank.tiles.view(np.uint64).sum(), REPEATS))
    for spec in METHODS.values():
        search = search_first(spec, bank, k, num_classes=CLASSES)
        seconds.append(median_seconds(lambda search=search: infer_tasks(search, many), 2))
    return [f"{1000 * value:.1f} ms" for value in seconds]


def _float_stacks(bank: MaskBank, x_1D: torch.Tensor) -> Callable[[], object]:
    """Return the original code's method: float masks of all tasks, weighted by alpha, and autograd."""
    tasks = np.arange(bank.num_tasks)
    stacks = [torch.empty(bank.num_tasks, *weight.shape) for weight in bank.base]
    for task in tasks:
        for stack, masked, weight in zip(
            stacks, mask_weights(bank.packed(np.array([task]))[0], bank.base), bank.base, strict=True
        ):
            stack[task] = masked / weight

    def infer() -> torch.Tensor:
        alpha = torch.full((bank.num_tasks, 1, 1), 1 / bank.num_tasks, requires_grad=True)
        hidden = x_1D
        for layer, (weight, stack) in enumerate(zip(bank.base, stacks, strict=True)):
            hidden = hidden @ (weight * (alpha * stack).sum(dim=0)).T
            hidden = hidden.relu() if layer < len(stacks) - 1 else hidden
        held = torch.cat([hidden[:, :CLASSES].detach(), hidden[:, CLASSES:]], dim=1)
        return torch.autograd.grad(held.logsumexp(dim=1).sum(), alpha)[0].argmin()

    return infer


def _memory(num_masks: int) -> None:
    """Print how much one inference, superposition included, adds to the peak of a fresh process."""
    one = _images(1)
    small = MaskBank(_random_tiles(4), _base())
    infer_tasks(search_first(METHODS["exact"], small, 4, num_classes=CLASSES), one)  # warm-up
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "bank.npy"
        _write_random(path, num_masks)
        bank = MaskBank(np.load(path), _base())
        before_bytes = _status_bytes("VmRSS")
        infer_tasks(search_first(METHODS["exact"], bank, num_masks, num_classes=CLASSES), one)
    peak_bytes, packed_bytes = _status_bytes("VmHWM"), bank.tiles.nbytes
    with_bank = (packed_bytes + peak_bytes - before_bytes) / packed_bytes
    print("| masks | packed | resident before | at most in the inference | packed + growth, as packed |")
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| {num_masks} | {packed_bytes / 1e6:.1f} MB | {before_bytes / 1e6:.1f} MB "
        f"| {peak_bytes / 1e6:.1f} MB | {with_bank:.2f} x |"
    )


def _from_disk(num_masks: int) -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "bank.npy"
        _write_random(path, num_masks)
        started_bytes = _status_bytes("VmRSS")
        tiles = np.asarray(np.load(path, mmap_mode="r"))
        search = search_first(METHODS["exact"], MaskBank(tiles, _base()), num_masks, num_classes=CLASSES)
        seconds = [median_seconds(lambda: infer_tasks(search, _images(1)), 3)]
        short = search_first(METHODS["shortlist"], MaskBank(tiles, _base()), num_masks, num_classes=CLASSES)
        seconds.append(median_seconds(lambda: infer_tasks(short, _images(1)), 3))
        start_s = time.perf_counter()
        infer_tasks(search, _images(79), own=[0])
        part_s = time.perf_counter() - start_s
    peak_bytes = _status_bytes("VmHWM")
    print(
        "| masks | bank | exact | shortlist | 79 images, rank and margin | resident before | resident at most |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {num_masks:,} | {tiles.nbytes / 1e6:.0f} MB | {1000 * seconds[0]:.0f} ms "
        f"| {1000 * seconds[1]:.0f} ms | {part_s:.0f} s | {started_bytes / 1e6:.0f} MB | {peak_bytes / 1e6:.0f} MB |"
    )


@dataclass(frozen=True)
class _EveryMask(MaskBank):
    """A bank without rough sums."""

    def rough_bank(self, num_tasks: int) -> None:
        """Return None, so that every mask is compared exactly."""


def _many(num_masks: int) -> None:
    """Print our times beside peers, in turn: the images of an MNIST task, and one image whose task is given."""
    base, tiles, x_B1D = _base(), _random_tiles(num_masks), _images(79)
    searches = [
        search_first(METHODS["exact"], bank, num_masks, num_classes=CLASSES)
        for bank in (MaskBank(tiles, base), _EveryMask(tiles, base))
    ]
    own = [int(infer_tasks(searches[0], x_B1D[:1]).tasks[0, 0])]
    values = searches[0].planes(x_B1D[0], searches[0].start)
    values_N = torch.from_numpy(from_planes(values, values.size // 8))
    stack = torch.empty(MATVEC_MASKS, len(values_N))
    works: dict[str, Callable[[], object]] = {
        "79 images, rank and margin": lambda: infer_tasks(searches[0], x_B1D, own=own),
        "79 images, best five": lambda: infer_tasks(searches[0], x_B1D),
        "79 images, every mask": lambda: infer_tasks(searches[1], x_B1D),
        "79 images alone, best five": lambda: infer_each(searches[0], x_B1D),
        f"1 image, float stacks of {MATVEC_MASKS}, autograd": _float_stacks(
            MaskBank(np.ascontiguousarray(tiles[:, :MATVEC_MASKS]), base), x_B1D[0]
        ),
        "1 image, every mask": lambda: infer_tasks(searches[0], x_B1D[:1]),
        f"1 image, float stack of {MATVEC_MASKS}, one matvec": lambda: stack @ values_N,
        **_given_works(searches[0].bank, x_B1D[0]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(ROUNDS + 1):
        for name, work in works.items():
            start_s = time.process_time()
            work()
            if repeat:  # the first compiles
                seconds[name].append(time.process_time() - start_s)
    print(f"| {num_masks} masks, seconds of one thread | median | least |\n| --- | --- | --- |")
    for name, taken in seconds.items():
        print(f"| {name} | {1000 * statistics.median(taken):.2f} ms | {1000 * min(taken):.2f} ms |")


def _given_works(bank: MaskBank, x_1D: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return the work of classifying GIVEN_IMAGES images one by one, each under another mask."""
    dense = mask_weights(bank.packed(np.array([0]))[0], bank.base)

    def ours() -> None:
        for task in range(GIVEN_IMAGES):
            forward_plain(x_1D, mask_weights(bank.packed(np.array([task]))[0], bank.base))

    def network() -> None:
        for _ in range(GIVEN_IMAGES):
            forward_plain(x_1D, dense)

    return {f"{GIVEN_IMAGES} x task given": ours, f"{GIVEN_IMAGES} x dense network": network}


def _opened(root: Path) -> tuple[Any, Any, MaskBank, Any]:
    """Return a run, its data set, its bank in memory, and the test images."""
    from core.batches.inputs import to_device
    from core.data.datasets import load_dataset
    from orchestrator.predict import base_tensors
    from orchestrator.runs.run import open_run
    from storage.bank_file import ensure_bank, map_bank

    run, _ = open_run(root)
    dataset = load_dataset(run.config.benchmark, Path(os.environ["SUPSUP_DATA"]))
    tiles = np.array(map_bank(ensure_bank(run.store), packed_num_bytes(run.identity.shapes)))
    pixels = to_device(dataset, "test", torch.device("cpu"))
    return run, dataset, MaskBank(tiles, base_tensors(run)), pixels


def _evaluate(root: Path, num_tasks: int) -> None:
    """Print the median time of a task's evaluation at each k, and what all tasks at all k would take."""
    from core.data.benchmarks import task_view
    from core.inference.evaluation import infer_test_images

    run, dataset, bank, pixels = _opened(root)
    ks, total_s = run.config.evaluation.ks(bank.num_tasks), 0.0
    print("| k | seconds a task | images whose task was found | all k tasks |\n| --- | --- | --- | --- |")
    for k in ks:
        search = search_first(METHODS["exact"], bank, k, num_classes=dataset.num_classes)
        seconds, is_right = [], []
        for task in np.linspace(0, k - 1, min(k, num_tasks)).astype(int).tolist():
            view = task_view(run.config.benchmark, dataset, task, seed=run.config.seed)
            start_s = time.process_time()
            rows = infer_test_images(
                search, own=[task], view=view, pixels=pixels, num_batches=None, seed=0, task=task
            )
            seconds.append(time.process_time() - start_s)
            is_right.append((rows.rank == 1).mean())
        total_s += k * statistics.median(seconds)
        shown = f"{statistics.median(seconds):.2f} s | {100 * np.mean(is_right):.2f} %"
        print(f"| {k} | {shown} | {k * statistics.median(seconds) / 60:.1f} min |", flush=True)
    print(f"\nAll of them, by arithmetic: {total_s / 60:.0f} minutes of one thread.")


def _agreement(root: Path, num_images: int) -> None:
    from core.batches.inputs import gather_inputs
    from core.data.benchmarks import task_view

    run, dataset, bank, pixels = _opened(root)
    draw = np.random.default_rng(0)
    pairs = draw.integers(0, (bank.num_tasks, len(dataset.test_labels)), (num_images, 2))
    print("| objective | tasks | images | exact right | shortlist right | agree | exact | shortlist |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for objective in ("H", "G"):
        answers: dict[str, list[int]] = {name: [] for name in METHODS}
        seconds: dict[str, list[float]] = {name: [] for name in METHODS}
        for name, method in METHODS.items():
            spec = InferenceSpec(algorithm=method.algorithm, objective=objective)
            search = search_first(spec, bank, bank.num_tasks, num_classes=dataset.num_classes)
            for task, image in pairs:
                view = task_view(run.config.benchmark, dataset, int(task), seed=run.config.seed)
                gather = torch.from_numpy(view.input_gather)[None]
                rows = torch.from_numpy(view.test_rows[image : image + 1])[None]
                x_GND = gather_inputs(pixels, gather, rows)
                start_s = time.perf_counter()
                answers[name].append(int(infer_tasks(search, x_GND).tasks[0, 0]))
                seconds[name].append(time.perf_counter() - start_s)
        exact, short = np.array(answers["exact"]), np.array(answers["shortlist"])
        shares = [(exact == pairs[:, 0]).mean(), (short == pairs[:, 0]).mean(), (exact == short).mean()]
        print(
            f"| {objective} | {bank.num_tasks} | {num_images} | "
            + " | ".join(f"{100 * share:.2f} %" for share in shares)
            + f" | {1000 * statistics.median(seconds['exact']):.1f} ms"
            f" | {1000 * statistics.median(seconds['shortlist']):.1f} ms |",
            flush=True,
        )


def _base() -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(weight) for weight in base_weights(NETWORK, 784, seed=0))


def _num_bytes() -> int:
    return packed_num_bytes([weight.shape for weight in _base()])


def _random_tiles(num_masks: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    return to_tiles(draw.integers(0, 256, (num_masks, _num_bytes()), dtype=np.uint8))


def _write_random(path: Path, num_masks: int) -> None:
    """Write a bank of random masks tile by tile, without keeping it in memory."""
    shape = (num_tiles(_num_bytes()), num_masks, TILE_BYTES)
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for tile in range(shape[0]):
            draw = np.random.default_rng(tile)
            file.write(draw.bytes(num_masks * TILE_BYTES))


def _images(num: int) -> torch.Tensor:
    """Return images with roughly MNIST's statistics: background, and a fifth of bright pixels."""
    draw = np.random.default_rng(1)
    raw = np.where(draw.random((num, 1, 784)) < 0.2, draw.random((num, 1, 784)), 0)
    return torch.from_numpy((raw - 0.1307) / 0.3081).float()


def _status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main()
