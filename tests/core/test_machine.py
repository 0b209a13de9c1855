"""The instruction set that decides the last bits of a sum."""

from core.machine import instruction_set


def test_what_holds_the_libraries_back_counts(monkeypatch):
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.delenv("MKL_ENABLE_INSTRUCTIONS", raising=False)
    own = instruction_set()
    assert own
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    assert instruction_set() == "avx2"
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert instruction_set() == "avx2+default"
