"""Torch's build, known where torch is not imported."""

import subprocess

import pytest
import torch

from core.machine import blas
from orchestrator.runs import arithmetic as module
from orchestrator.runs.arithmetic import arithmetic


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SUPSUP_CACHE", str(tmp_path))
    module._torch_build.cache_clear()
    yield tmp_path
    module._torch_build.cache_clear()


def test_the_controller_says_what_its_workers_say(empty_cache):
    assert arithmetic()["blas"] == blas(torch.__config__.show())


def test_torch_is_asked_once(empty_cache, monkeypatch):
    found = arithmetic()
    module._torch_build.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked again"))
    assert arithmetic() == found


def test_a_torch_that_does_not_answer_is_no_error(empty_cache, monkeypatch):
    def fails(*_, **__):
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(subprocess, "run", fails)
    assert arithmetic()["blas"] == "unknown"
    assert not list(empty_cache.iterdir())


def test_a_mix_is_named_by_what_differs(monkeypatch):
    here = {"instructions": "avx2", "blas": "MKL 2024.2 (avx2)"}
    monkeypatch.setattr(module, "arithmetic", lambda: here)
    assert module.mix_note(here) is None
    assert module.mix_note({}) is None  # from an older version
    note = module.mix_note({"instructions": "avx512"})
    assert "started with instructions avx512; this machine has instructions avx2; " in note
    both = module.mix_note({"instructions": "avx512", "blas": "MKL 2024.2 (avx512)"})
    assert (
        "instructions avx512, blas MKL 2024.2 (avx512); this machine has instructions avx2, blas MKL 2024.2 (avx2); "
        in both
    )
