"""Properties of a machine: its memory, and what decides the last bits of a sum. No torch.

numba's loops are left out: they add in the order that is written, so their bits do not depend on the processor.
"""

import os
import re
from pathlib import Path

CAPABILITIES = ("default", "avx2", "avx512")  # of torch on x86; it ignores other names


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def instruction_set() -> str:
    """Return the vector instructions that torch uses here, such as ``avx512``.

    Sums in registers of another width add in another order, so masks differ in a few bits. Like torch, this
    takes ATEN_CPU_CAPABILITY at its word.
    """
    held = os.environ.get("ATEN_CPU_CAPABILITY", "")
    return held if held in CAPABILITIES else _widest()


def blas(torch_build: str) -> str:
    """Return the library of torch's matrix products, its version, and the code that it picks here.

    torch_build: the text of ``torch.__config__.show()``.
    """
    mkl = re.search(r"Math Kernel Library Version ([\d.]+)", torch_build)
    if mkl is not None:
        return f"MKL {mkl[1]} ({_mkl_code()})"
    other = re.search(r"BLAS_INFO=(\w+)", torch_build)
    return other[1] if other else "unknown"


def _mkl_code() -> str:
    """Return which of its code MKL runs. Measured on AMD: it obeys MKL_CBWR=COMPATIBLE there and nothing else."""
    mode = os.environ.get("MKL_CBWR", "").upper()
    if mode.startswith("COMPATIBLE"):
        return "compatible"
    if "GenuineIntel" not in _processor_words():
        return f"{_widest()}, not Intel"
    held = os.environ.get("MKL_ENABLE_INSTRUCTIONS", "").lower() or _widest()
    return f"{held}, CBWR {mode}" if mode else held


def _widest() -> str:
    words = _processor_words()
    return (
        "avx512" if "avx512f" in words else "avx2" if "avx2" in words else "default" if words else "unknown"
    )


def _processor_words() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()
