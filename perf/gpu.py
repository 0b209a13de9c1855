"""Many tasks on one device against what the device can do: a roofline, accuracy, peak memory.

    python perf/gpu.py                                        # a GPU, 2500 tasks, MNIST at SUPSUP_DATA
    python perf/gpu.py --matmul bfloat16 --engine eager
    python perf/gpu.py --device cpu --tasks 8 --steps 100     # the same code without a GPU

Trains the tasks in cohorts, stores the masks, evaluates them with the task given and with the task inferred
(one-shot, G, the first image of each test batch). On a GPU it also trains eight tasks with the reference and
counts the bits that differ. What it prints, from the first line to the last, is what a report of this GPU needs:
hardware, driver, versions, figures, digests of the masks.

Needs core, storage, numpy, torch and pyarrow only: where the project is not installed, PYTHONPATH=. does.
Operations and bytes are counted (``cases``), ceilings are measured here. Products and bytes can overlap, so the
roofline is the longer of the two.
"""

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cases import (
    median_seconds,
    mnist,
    network_layers,
    paper_spec,
    step_bytes,
    step_flop,
    triton_bytes,
    triton_flop,
    versions,
)

from core.batches.problem import Problem
from core.data.datasets import Dataset
from core.inference.device_bank import DeviceBank
from core.inference.evaluation import correct_images, infer_test_images
from core.inference.search import search_first
from core.masks.bits import bits_digest, joint_digest, pack
from core.networks.base import base_weights, network_digest
from core.specs.inference import InferenceSpec
from core.specs.run import RunSpec
from core.specs.training import OptimizerSpec, TrainingSpec
from core.training.choose_engine import choose_engine
from core.training.chunks import CohortResult
from core.training.cohort import train_cohort
from core.training.engine import make_step
from storage.layout import RunLayout
from storage.mask_store import MaskStore, StoreIdentity, TaskMask

COHORT = 500  # tasks that the engine triton trains together here
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Ceilings:
    """Measured peak rates of the device: products of the step's shapes, a large product, a copy."""

    step_flops: float
    square_flops: float
    bytes_per_s: float


def main() -> None:
    """Measure and print."""
    options = _options()
    device = torch.device(options.device)
    training = TrainingSpec(
        steps=options.steps, matmul=options.matmul, optimizer=OptimizerSpec(state=options.state)
    )
    spec = paper_spec(num_tasks=options.tasks, training=training)
    flop = step_flop(spec) * options.steps * options.tasks
    engine = options.engine or choose_engine(training, flop, on_gpu=device.type == "cuda")
    dataset, data_name = mnist(options.data)
    cohort = options.cohort or (COHORT if engine == "triton" else options.tasks)
    print("----- copy from here -----")
    print(f"python {' '.join(sys.argv)}\n{_hardware(device)}\n{versions()}; {data_name}\n")
    print(
        f"{options.tasks} tasks in cohorts of {cohort}, {options.steps} steps, {engine}, {options.matmul}, "
        f"state {options.state}\n"
    )
    print("| what | figure | of the ceiling |\n| --- | --- | --- |")
    ceilings = _ceilings(spec, device, options.tasks, engine)
    result, total_s = _train(spec, dataset, device, options.tasks, engine, cohort)
    _print_roofline(spec, ceilings, result, total_s, engine)
    _print_memory(device)
    _print_storage(spec, result)
    _print_accuracy(spec, dataset, device, result, options.batches)
    _print_digests(result)
    if engine != "eager" and options.compare:
        _print_comparison(spec, dataset, device, result, options.compare)
    print("----- to here -----")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tasks", type=int, default=2500)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--engine", choices=["eager", "fused", "compiled", "triton"])
    parser.add_argument("--cohort", type=int, help=f"tasks trained together; {COHORT} with triton, else all")
    parser.add_argument("--compare", type=int, help="tasks to train with eager too; 8 on a GPU, else none")
    parser.add_argument("--matmul", choices=list(DTYPES), default="float32")
    parser.add_argument("--state", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--batches", type=int, help="test batches of each task to infer; all by default")
    parser.add_argument("--data", type=Path, default=os.environ.get("SUPSUP_DATA"), help="holds mnist/")
    options = parser.parse_args()
    if options.compare is None:
        options.compare = 8 if options.device == "cuda" else 0
    options.data = Path(options.data) if options.data else None
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here; --device cpu --tasks 8 runs the same code without one")
    return options


def _ceilings(spec: RunSpec, device: torch.device, num_tasks: int, engine: str) -> Ceilings:
    """Measure each product of the step in its dtype, with enough tasks to fill the device."""
    torch.backends.cuda.matmul.allow_tf32 = spec.training.matmul == "tf32"
    dtype = torch.bfloat16 if engine == "triton" else DTYPES[spec.training.matmul]
    batch = spec.training.batch_size
    num_tasks = min(num_tasks, 256)
    seconds = 0.0
    for index, layer in enumerate(network_layers(spec)):
        outputs, inputs = layer.shape
        h = torch.randn(num_tasks, batch, inputs, device=device, dtype=dtype)
        w = torch.randn(num_tasks, outputs, inputs, device=device, dtype=dtype)
        d = torch.randn(num_tasks, batch, outputs, device=device, dtype=dtype)
        products = [(h, w.transpose(1, 2)), (d.transpose(1, 2), h)] + ([(d, w)] if index else [])
        seconds += sum(_seconds(lambda a=a, b=b: torch.bmm(a, b), device) for a, b in products)
    size = 8192 if device.type == "cuda" else 1024
    square = torch.randn(size, size, device=device, dtype=dtype)
    square_s = _seconds(lambda: square @ square, device)
    source = torch.empty((1 << 30) if device.type == "cuda" else (1 << 27), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = _seconds(lambda: target.copy_(source), device)
    return Ceilings(step_flop(spec) * num_tasks / seconds, 2 * size**3 / square_s, 2 * len(source) / copy_s)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    def finished() -> None:
        work()
        _wait(device)

    return median_seconds(finished, 10)


def _train(  # called in one place
    spec: RunSpec, dataset: Dataset, device: torch.device, num_tasks: int, engine: str, cohort: int
) -> tuple[CohortResult, float]:
    """Train; return the masks and the total seconds, compilation and copies included."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start_s = time.perf_counter()
    problem, step = Problem(spec, dataset, device), make_step(spec.training, engine)
    parts = [
        train_cohort(problem, range(first, min(first + cohort, num_tasks)), step=step)
        for first in range(0, num_tasks, cohort)
    ]
    result = CohortResult(
        tasks=tuple(range(num_tasks)),
        masks=tuple(map(np.concatenate, zip(*(part.masks for part in parts), strict=True))),
        train_loss=np.concatenate([part.train_loss for part in parts]),
        train_seconds=sum(part.train_seconds * len(part.tasks) for part in parts) / num_tasks,
    )
    return result, time.perf_counter() - start_s


def _print_roofline(
    spec: RunSpec, ceilings: Ceilings, result: CohortResult, total_s: float, engine: str
) -> None:
    num_steps = spec.training.num_steps * len(result.tasks)
    loop_s = result.train_seconds * len(result.tasks)
    counted = (triton_flop, triton_bytes) if engine == "triton" else (step_flop, step_bytes)
    flop, num_bytes = (count(spec) * num_steps for count in counted)
    flop_s, bytes_s = flop / ceilings.step_flops, num_bytes / ceilings.bytes_per_s
    longer_s, name = max((flop_s, "products"), (bytes_s, "bytes"))
    print(f"| ceiling: products of the step's shapes | {ceilings.step_flops / 1e12:.3f} TFLOP/s | |")
    print(f"| ceiling: large square product | {ceilings.square_flops / 1e12:.3f} TFLOP/s | |")
    print(f"| ceiling: copy, bytes read and written | {ceilings.bytes_per_s / 1e9:.1f} GB/s | |")
    print(f"| training, everything | {total_s:.1f} s | |")
    print(f"| training, the loop without first steps | {loop_s:.1f} s | |")
    print(f"| {flop / 1e12:.2f} TFLOP | {flop / loop_s / 1e12:.3f} TFLOP/s | {flop_s / loop_s:.0%} |")
    print(f"| {num_bytes / 1e12:.3f} TB | {num_bytes / loop_s / 1e9:.1f} GB/s | {bytes_s / loop_s:.0%} |")
    print(
        f"| roofline: products {flop_s:.1f} s, bytes {bytes_s:.1f} s, so {name} "
        f"| {longer_s:.1f} s | {longer_s / loop_s:.0%} |"
    )


def _print_memory(device: torch.device) -> None:
    if device.type == "cuda":
        peak, total = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
        print(f"| peak memory | {peak / 1e9:.1f} GB | {peak / total:.0%} |")
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"| peak memory of the process | {peak / 1e9:.1f} GB | |")


def _print_storage(spec: RunSpec, result: CohortResult) -> None:
    shapes = network_layers(spec)
    base = base_weights(spec.network, shapes[0].shape[1], seed=spec.seed)
    network = {"kind": spec.network.kind, "seed": spec.seed, "digest": network_digest(base)}
    identity = StoreIdentity(
        fingerprint="0" * 64,
        layers=tuple((layer.name, layer.shape) for layer in shapes),
        network={**network, "outputs": spec.network.outputs},
    )
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.perf_counter()
        masks = [
            TaskMask(
                task=task,
                bits=pack([layer[k] for layer in result.masks]).tobytes(),
                test_accuracy=0.0,
                train_loss=float(result.train_loss[k]),
                train_seconds=result.train_seconds,
            )
            for k, task in enumerate(result.tasks)
        ]
        store = MaskStore(RunLayout(Path(folder)), identity)
        store.write_cohort(masks, {"finished_s": time.time()})
        seconds = time.perf_counter() - start_s
        num_bytes = sum(path.stat().st_size for path in store.files())
    print(f"| packing and storing the masks, {num_bytes / 1e6:.1f} MB | {seconds:.1f} s | |")


def _print_accuracy(
    spec: RunSpec, dataset: Dataset, device: torch.device, result: CohortResult, num_batches: int | None
) -> None:
    problem = Problem(spec, dataset, device)
    pixels, base, views = problem.test, problem.base, problem.views(result.tasks)
    start_s = time.perf_counter()
    correct = correct_images(views, pixels, base, result.masks)
    print(f"| GG: mean accuracy, {len(views)} tasks | {np.mean([c.mean() for c in correct]):.2%} | |")
    print(f"| GG: time | {time.perf_counter() - start_s:.1f} s | |")
    packed = np.stack([pack([layer[k] for layer in result.masks]) for k in range(len(views))])
    start_s = time.perf_counter()
    bank = DeviceBank(torch.from_numpy(packed).to(device), base)
    search = search_first(InferenceSpec(), bank, len(views), num_classes=dataset.num_classes)
    rows = [
        infer_test_images(
            search, own=[task], view=view, pixels=pixels, num_batches=num_batches, seed=0, task=task
        )
        for task, view in zip(result.tasks, views, strict=True)
    ]
    right = [(row.inferred_task == task) for task, row in zip(result.tasks, rows, strict=True)]
    unknown = [
        (row.num_correct * found).sum() / row.num_images.sum() for row, found in zip(rows, right, strict=True)
    ]
    num_inferences = sum(len(found) for found in right)
    print(f"| one-shot G, 1 image: task right, of {num_inferences} | {np.concatenate(right).mean():.2%} | |")
    print(f"| GNu at k = {len(views)}: mean accuracy | {np.mean(unknown):.2%} | |")
    print(f"| task inference and GNu: time | {time.perf_counter() - start_s:.1f} s | |")


def _print_digests(result: CohortResult) -> None:
    digests = [
        bits_digest(pack([layer[k] for layer in result.masks]).tobytes()) for k in range(len(result.tasks))
    ]
    print(f"| digest of all masks | {joint_digest(digests)[:32]} | |")
    print(f"| digests of the first | {' '.join(one[:8] for one in digests[:4])} | |")


def _print_comparison(
    spec: RunSpec, dataset: Dataset, device: torch.device, result: CohortResult, num_tasks: int
) -> None:
    """Train the first tasks with the reference too and count the bits that differ."""
    problem = Problem(spec, dataset, device)
    tasks = range(min(num_tasks, len(result.tasks)))
    reference = train_cohort(problem, tasks, step=make_step(spec.training, "eager"))
    ours = [layer[: len(tasks)] for layer in result.masks]
    differ = sum(int((a != b).sum()) for a, b in zip(ours, reference.masks, strict=True))
    share = differ / sum(layer.size for layer in ours)
    views = problem.views(tasks)
    found, wanted = (
        np.mean([one.mean() for one in correct_images(views, problem.test, problem.base, masks)])
        for masks in (ours, reference.masks)
    )
    print(f"| bits that differ from eager, {len(tasks)} tasks | {1000 * share:.2f} in 1,000 | |")
    print(f"| GG of these, and with eager | {found:.2%}, {wanted:.2%} | |")


def _hardware(device: torch.device) -> str:
    if device.type != "cuda":
        return f"CPU {_processor()}, {torch.get_num_threads()} threads, no GPU"
    properties = torch.cuda.get_device_properties(device)
    return (
        f"{properties.name}, compute capability {properties.major}.{properties.minor}, "
        f"{properties.total_memory / 1e9:.0f} GB, {properties.multi_processor_count} multiprocessors; "
        f"driver {_driver()}, CUDA {torch.version.cuda}; CPU {_processor()}, {os.cpu_count()} threads"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown (no nvidia-smi)"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip() or "unknown"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
