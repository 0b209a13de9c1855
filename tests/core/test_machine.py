"""What decides the last bits of a sum: what is said is what torch and MKL use."""

import os
import subprocess
import sys

import pytest

from core import machine
from core.machine import blas, instruction_set

MKL = "  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R) 64 architecture"
SAID_AND_USED = "import torch; from core.machine import instruction_set as said; print(said()); print(torch.backends.cpu.get_cpu_capability().lower())"


@pytest.fixture
def processor(monkeypatch):
    """Return a function that pretends a processor, given its words in /proc/cpuinfo."""
    for name in ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"):
        monkeypatch.delenv(name, raising=False)

    def pretend(*words: str) -> None:
        monkeypatch.setattr(machine, "_processor_words", lambda: set(words))

    return pretend


@pytest.mark.parametrize("held", [None, "default", "SSE"])
def test_what_is_said_is_what_torch_uses(held):
    environment = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    environment |= {} if held is None else {"ATEN_CPU_CAPABILITY": held}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SAID_AND_USED],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    said, used = done.stdout.split()
    assert said == used


def test_what_holds_torch_back_counts(processor, monkeypatch):
    processor("GenuineIntel", "avx512f", "avx2")
    assert instruction_set() == "avx512"
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    assert instruction_set() == "avx512"  # MKL's variable is none of torch's
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert instruction_set() == "default"


def test_mkl_on_intel_is_held_back_by_its_variables(processor, monkeypatch):
    processor("GenuineIntel", "avx512f", "avx2")
    assert blas(MKL) == "MKL 2024.2 (avx512)"
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    assert blas(MKL) == "MKL 2024.2 (avx2)"
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    assert blas(MKL) == "MKL 2024.2 (avx2, CBWR AVX2,STRICT)"


def test_mkl_elsewhere_obeys_one_variable_only(processor, monkeypatch):
    processor("AuthenticAMD", "avx2")
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "SSE4_2")
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    assert blas(MKL) == "MKL 2024.2 (avx2, not Intel)"
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert blas(MKL) == "MKL 2024.2 (compatible)"


def test_other_libraries_are_named():
    assert blas("Build settings: BLAS_INFO=open, BUILD_TYPE=Release") == "open"
    assert blas("") == "unknown"
