"""Properties of a machine that decide the last bits of a sum."""

import os
from pathlib import Path


def instruction_set() -> str:
    """Return the widest vector instructions that torch and MKL may use here, such as ``avx512``.

    Sums in registers of another width add in another order, so masks differ in a few bits. Environment
    variables that hold the libraries back (ATEN_CPU_CAPABILITY, MKL_ENABLE_INSTRUCTIONS) count.
    """
    held = {os.environ.get(name, "").lower() for name in ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")}
    return "+".join(sorted(held - {""})) or _widest()


def _widest() -> str:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "unknown"
    return "avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else "other"
