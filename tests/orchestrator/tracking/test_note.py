"""The note on a run's MLflow page says what is so."""

from dataclasses import replace

from orchestrator.config.load import load_sweep
from orchestrator.runs.results import read_results
from orchestrator.runs.run import locate_run, open_run
from orchestrator.stages import training_stage
from orchestrator.sweep import run_sweep
from orchestrator.tracking.note import note
from tests.orchestrator.fakes import Recorder


def test_the_note_promises_equal_bits_only_where_there_are_masks_of_an_exact_engine(sweep):
    run_sweep(load_sweep(sweep), None, Recorder())
    run, record = open_run(locate_run(load_sweep(sweep)).layout.root)
    infos = run.store.facts().infos()
    assert infos

    def text(engine, infos):
        return note(
            run,
            replace(record, engine=engine),
            progress=training_stage(run.config).progress(run),
            infos=infos,
            results=read_results(run),
            failed=(),
            sessions=(),
            status="FINISHED",
        )

    assert "the same masks, bit for bit" in text("fused", infos)
    assert "bit for bit" not in text("compiled", infos) + text("triton", infos)
    assert "bit for bit" not in text("fused", [])
    assert "4 of 4 tasks trained" in text("fused", infos)
