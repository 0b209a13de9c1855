"""What devices there are: GPUs of this machine without opening one, and what a worker's process finds.

``plan`` uses ``nvidia-smi`` alone. A context of CUDA, which costs memory of the GPU, is opened only where
and while a worker's process is asked.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from core.errors import first_line
from core.rooms import python
from core.training.choose_engine import has_cpp, has_triton
from orchestrator.runs.sizing import Device
from storage.layout import host_name

UNSEEN_GPU_BYTES = 8 << 30  # assumed free on a GPU that nobody could be asked about
ASK = "from orchestrator.cluster.devices import print_device; print_device()"
QUERY = ["--query-gpu=index,uuid,memory.free,name", "--format=csv,noheader,nounits"]
SMI_LIMIT_S, ANSWER_LIMIT_S = 10.0, 120.0


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine. free_bytes: None if the driver does not say."""

    index: int
    uuid: str
    name: str
    free_bytes: int | None


def local_gpus() -> list[Gpu]:
    """Return the GPUs that this process may use, as the driver lists them."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603  # the driver's own tool
            [command, *QUERY], capture_output=True, text=True, timeout=SMI_LIMIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return visible(read_gpus(done.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def read_gpus(listing: str) -> list[Gpu]:
    """Return the GPUs in the lines ``index, uuid, free MiB, name`` of ``nvidia-smi``."""
    rows = [[part.strip() for part in line.split(",", 3)] for line in listing.splitlines()]
    return [
        Gpu(int(index), uuid, name, int(free) << 20 if free.isdigit() else None)
        for index, uuid, free, name in (row for row in rows if len(row) == 4 and row[0].isdigit())
    ]


def visible(gpus: Sequence[Gpu], chosen: str | None) -> list[Gpu]:
    """Return the GPUs that CUDA shows if CUDA_VISIBLE_DEVICES is ``chosen``; None for not set.

    Like CUDA, stop at the first entry that names none. Part of a GPU (``MIG-...``) has a size not known here.
    """
    if chosen is None:
        return list(gpus)
    found: list[Gpu] = []
    for entry in (part.strip() for part in chosen.split(",")):
        if entry.startswith("MIG-"):
            found.append(Gpu(len(found), entry, "part of a GPU", None))
            continue
        named = [gpu for gpu in gpus if _is_named(gpu, entry)]
        if len(named) != 1 or named[0] in found:
            break
        found += named
    return found


def _is_named(gpu: Gpu, entry: str) -> bool:
    return gpu.index == int(entry) if entry.isdigit() else bool(entry) and gpu.uuid.startswith(entry)


def unopened_device(gpus: Sequence[Gpu]) -> Device:
    """Return what is known of the GPUs without opening one: that with the least free memory."""
    known = [gpu for gpu in gpus if gpu.free_bytes is not None]
    least = min(known, key=lambda gpu: gpu.free_bytes or 0, default=None)
    if least is None:
        return assumed_device()
    return _device(least.name, least.free_bytes or 0)


def assumed_device() -> Device:
    """Return what is assumed of a GPU that nobody could be asked about."""
    return Device(name=None, free_bytes=UNSEEN_GPU_BYTES, has_compiler=has_cpp(), has_triton=has_triton())


def find_device(*, on_gpu: bool) -> Device:
    """Return the device of a worker in this process; opens the GPUs that it sees.

    name is None if ``on_gpu`` and torch sees no GPU.
    """
    if not on_gpu:
        return _device("cpu", psutil.virtual_memory().available)
    import torch

    if not torch.cuda.is_available():
        return _device(None, 0)
    indices = range(torch.cuda.device_count())
    free = [int(torch.cuda.mem_get_info(index)[0]) for index in indices]
    least = min(indices, key=free.__getitem__)
    return _device(torch.cuda.get_device_name(least), free[least])


def _device(name: str | None, free_bytes: int) -> Device:
    return Device(
        name=name,
        free_bytes=free_bytes,
        has_compiler=has_cpp(),
        has_triton=has_triton(),
        told_by=host_name(),
    )


def print_device() -> None:
    """Print this process's GPU as JSON, for ``ask_process``."""
    sys.stdout.write(f"\n{json.dumps(asdict(find_device(on_gpu=True)))}\n")


def ask_process() -> Device:
    """Return this machine's GPU as a process of its own finds it; the context ends with that process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    try:
        done = subprocess.run(  # noqa: S603  # our own words
            python(ASK),
            capture_output=True,
            text=True,
            timeout=ANSWER_LIMIT_S,
            check=True,
            env=environment,
        )
        return Device(**json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return _device(None, 0)  # such as a driver that fails at the first call


def least_of(answers: Sequence[Device | Exception]) -> tuple[Device | None, str | None]:
    """Return the device with the least free memory, None if nobody has one, and why some gave none."""
    devices = [one for one in answers if isinstance(one, Device) and one.name is not None]
    why = [first_line(one) for one in answers if isinstance(one, Exception)]
    blind = [one.told_by for one in answers if isinstance(one, Device) and one.name is None]
    why += [f"torch sees no GPU on {host}" for host in blind]
    return min(devices, key=lambda one: one.free_bytes, default=None), "; ".join(why) or None
