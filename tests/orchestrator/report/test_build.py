"""Figures and the page of a run: made from its folder, the same each time, readable by anyone."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import orchestrator.report.build
import orchestrator.report.drawn
from orchestrator.config.load import load_sweep
from orchestrator.report.build import draw_or_warn, make_report
from orchestrator.report.data import overlap, report_data, spread, time_line
from orchestrator.report.figures import FIGURES
from orchestrator.report.mask_sizes import entropy_bits
from orchestrator.runs.history import begin_session
from orchestrator.runs.run import locate_run, open_run
from orchestrator.sweep import run_sweep
from storage.mask_info import MaskInfo
from tests.orchestrator.fakes import Recorder

FACTS = MaskInfo(
    task=0, digest="d", density=0.5, test_accuracy=0.9, train_loss=0.1, train_seconds=1.0,
    num_bytes=10, encoding="bits", num_norm_bytes=0, file="cohort-00000-00001.parquet", worker="a-1", started_s=100.0, finished_s=110.0,
)  # fmt: skip


def test_every_figure_is_a_png_and_an_svg_that_follows_the_readers_scheme(run):
    for name, _, _, _ in FIGURES:
        with Image.open(run.layout.report / f"{name}.png") as image:
            assert min(image.size) >= 300
        svg = (run.layout.report / f"{name}.svg").read_text()
        assert "prefers-color-scheme:dark" in svg
        assert "#212223" not in svg.partition("</style>")[2]
        assert "<text" in svg  # letters, not outlines of them


def test_the_page_opens_from_disk_and_fetches_nothing(run):
    page = (run.layout.report / "report.html").read_text()
    assert page.count("<svg") == len(FIGURES)
    fetched = re.findall(r"""(?:src|href)=["']([^"'#][^"']*)""", page)
    assert [target for target in fetched if not target.startswith("data:")] == []
    assert "url(http" not in page
    assert f"<title>{run.name}</title>" in page
    assert "GNu" in page


def test_drawn_again_it_is_the_same_bytes(run):
    kinds = (".png", ".svg", ".html", ".csv")
    before = {p: p.read_bytes() for p in run.layout.report.iterdir() if p.suffix in kinds}
    run.layout.report_record.unlink()
    assert len(make_report(run.layout.root).files) == len(FIGURES) + 1
    assert {path: path.read_bytes() for path in before} == before


@pytest.fixture
def drawings(monkeypatch):
    """Count how often reports are drawn."""
    seen = []
    draw = orchestrator.report.build.report_data
    monkeypatch.setattr(
        orchestrator.report.build, "report_data", lambda *args: seen.append(args) or draw(*args)
    )
    return seen


def test_a_report_of_what_did_not_change_is_not_drawn_again(run, drawings):
    first = make_report(run.layout.root)
    begin_session(run.layout)  # trains nothing
    assert make_report(run.layout.root) == first
    assert len(drawings) <= 1  # by whichever command was first
    (run.layout.report / "accuracy.svg").write_text("<svg/>")
    make_report(run.layout.root)
    assert "<text" in (run.layout.report / "accuracy.svg").read_text()


@pytest.mark.parametrize("changed", ["summary", "table", "lead", "code"])
def test_what_a_report_shows_draws_it_again(run, changed, drawings, monkeypatch):
    make_report(run.layout.root)
    before = len(drawings)
    path = {"summary": run.layout.summary, "table": next(run.layout.evaluations.glob("GNu-*"))}.get(changed)
    content = None if path is None else path.read_bytes()
    if path is not None:
        path.unlink()
    elif changed == "lead":
        monkeypatch.setattr(orchestrator.report.drawn, "what_words", lambda *_: "another lead")
    else:
        monkeypatch.setattr(orchestrator.report.drawn, "version", lambda name: f"{name} of tomorrow")
    make_report(run.layout.root)
    assert len(drawings) == before + 1
    if content is not None:
        path.write_bytes(content)


def test_the_table_of_tasks_is_what_the_mask_files_say(run):
    rows = list(csv.DictReader((run.layout.report / "tasks.csv").read_text().splitlines()))
    facts = run.store.facts().infos()
    assert [int(row["task"]) for row in rows] == [0, 1, 2, 3]
    assert [row["digest"] for row in rows] == [one.digest for one in facts]
    assert [float(row["test_accuracy"]) for row in rows] == [one.test_accuracy for one in facts]


def test_what_is_drawn_is_what_the_masks_are(run):
    data = report_data(run)
    stored = [np.frombuffer(mask.bits, dtype=np.uint8) for mask in run.store.iterate(range(4))]
    ones = [np.unpackbits(bits, bitorder="little").astype(bool) for bits in stored]
    assert data.overlap[1, 3] == pytest.approx((ones[1] & ones[3]).sum() / (ones[1] | ones[3]).sum())
    assert data.overlap == pytest.approx(data.overlap.T)
    sizes = np.array([np.prod(shape) for shape in run.identity.shapes])
    assert data.densities @ sizes / sizes.sum() == pytest.approx([one.density for one in data.infos])
    assert data.confusion.counts.sum() == 4 * 2  # two test batches of each task
    assert set(data.margins) == {2, 4}
    assert set(data.by_k) == {"GG", "GNu"}


def test_the_gap_is_negative_where_a_wrong_task_won(run):
    import pyarrow.parquet as pq

    table = pq.read_table(run.layout.evaluations / "GNu-one_shot-G-1-4.parquet").to_pylist()
    known = [row for row in table if row["gap"] is not None]
    assert len(known) == len(table)  # of four tasks all are among the best five
    assert all((row["gap"] >= 0) == (row["rank"] == 1) for row in known)


def test_a_worker_without_work_at_the_end_of_a_session_is_not_busy():
    cohorts = [("a", 0, 10), ("b", 0, 10), ("a", 10, 20), ("c", 30, 40)]
    facts = [
        replace(FACTS, task=task, worker=worker, file=f"{task}", started_s=start_s, finished_s=end_s)
        for task, (worker, start_s, end_s) in enumerate(cohorts)
    ]
    assert time_line(facts, [-1.0, 29.0]).busy == 40 / 50  # b waits for a; c is of another session
    assert time_line(facts[:1]).busy == 1.0


def test_a_long_pause_is_cut_out_of_the_time_line_and_a_short_one_is_not():
    facts = [
        FACTS,
        replace(FACTS, task=1),
        replace(FACTS, task=2, file="cohort-00002-00002.parquet", worker="b-2", started_s=130.0, finished_s=140.0),
        replace(FACTS, task=3, file="cohort-00003-00003.parquet", started_s=1140.0, finished_s=1150.0),
    ]  # fmt: skip
    line = time_line(facts)
    assert [(s.worker, s.start_s, s.end_s, s.num_tasks) for s in line.spells] == [
        ("a-1", 0.0, 10.0, 2),
        ("b-2", 30.0, 40.0, 1),
        ("a-1", 40.0, 50.0, 1),
    ]
    assert line.cuts == ((40.0, 1000.0),)
    assert time_line([]).spells == ()


def test_many_tasks_are_spread_evenly():
    assert spread(range(5), 10) == [0, 1, 2, 3, 4]
    chosen = spread(range(2500), 64)
    assert len(set(chosen)) == 64
    assert (chosen[0], chosen[-1]) == (0, 2499)


def test_the_entropy_of_a_bit():
    assert entropy_bits(0.5) == 1.0
    assert entropy_bits(1.0) == 0.0
    assert entropy_bits(1 / 8) == pytest.approx(0.5436, abs=1e-4)


def test_no_task_means_no_overlap(run):
    assert overlap(run, []).shape == (0, 0)


def test_a_figure_that_cannot_be_drawn_is_said_and_fails_nothing(run, monkeypatch):
    display = Recorder()
    monkeypatch.setattr(orchestrator.report.build, "FIGURES", (("broken", "", "", lambda data: 1 / 0),))
    opened, record = open_run(run.layout.root)
    draw_or_warn(opened, record, display, opened.store.facts())
    assert "the report was not drawn (division by zero); run `supsup report" in display.messages


def test_a_run_without_any_mask_has_a_page(sweep):
    run_sweep(load_sweep(sweep), None, Recorder())
    run = locate_run(load_sweep(sweep))
    for path in run.store.files():
        path.unlink()
    page = make_report(run.layout.root).files[-1].read_text()
    assert "<svg" in page  # what was measured is still there
