"""A run that goes on elsewhere says so before it trains, whatever it trains."""

import pytest

from core.machine import instruction_set
from orchestrator.worker import stream as stream_work
from tests.conftest import supsup
from tests.integration.test_gaps import break_at, shown_by, write

WORDS = {"supermasks": "training ", "baseline": "training ", "stream": "following the stream "}


@pytest.mark.parametrize("kind", WORDS)
def test_a_resume_with_other_instructions_says_so_before_it_trains(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.setattr(stream_work, "CHECKPOINT_S", 0.0)
    sweep, own = write(tmp_path, kind), instruction_set()
    with monkeypatch.context() as patch:
        break_at(patch, 12 if kind == "stream" else 2)
        assert supsup("run", sweep) == 1
    assert "note: this run was begun" not in capsys.readouterr().out
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default" if own != "default" else "avx2")
    shown = shown_by(capsys, 0, "run", sweep)
    note = f"note: this run was started with instructions {own}; this machine has instructions "
    assert shown.index(note) < shown.index(WORDS[kind])
    assert "note: this run was begun" not in shown_by(capsys, 0, "run", sweep)
