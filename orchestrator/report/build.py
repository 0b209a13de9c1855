"""Makes the report of a run: figures, ``tasks.csv`` and the page that shows them."""

import csv
import io
from collections.abc import Sequence

from core.errors import first_line
from orchestrator.config.load import sweep_yaml
from orchestrator.execution.progress import Display
from orchestrator.report.data import report_data
from orchestrator.report.draw import save
from orchestrator.report.drawn import Report, find_report, note_report, sources_digest
from orchestrator.report.figures import FIGURES
from orchestrator.report.findings import FINDINGS
from orchestrator.report.mask_sizes import is_split_imagenet
from orchestrator.report.page import Shown, report_page
from orchestrator.report.stream_figures import draw_recoveries, draw_stream
from orchestrator.report.tables import metric_rows
from orchestrator.report.text import what_words
from orchestrator.runs.accuracy_matrix import write_matrices
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.lock import locked
from orchestrator.runs.run import Run, open_run
from storage.files import commit_text
from storage.locations import Location
from storage.mask_facts import MaskFacts
from storage.mask_info import MaskInfo
from storage.run_file import RunRecord


def make_report(root: Location) -> Report:
    """Make the report of a run folder. Raises RunFolderError or RunLockedError."""
    run, record = open_run(root)
    with locked(run.layout):
        facts = run.store.facts()
        write_matrices(run, facts)  # runs of older versions have none
        report = draw_report(run, record, facts)
        run.store.keep_facts(facts)
    return report


def draw_report(run: Run, record: RunRecord, facts: MaskFacts) -> Report:
    """Draw the report, unless the one in the run folder was drawn from the same."""
    made_from = sources_digest(run, record, facts)
    found = find_report(run, made_from)
    if found is not None:
        return found
    report = _draw(run, record, facts)
    note_report(run, report, made_from)
    return report


def _draw(run: Run, record: RunRecord, facts: MaskFacts) -> Report:
    """Draw all figures that the run folder has data for; write ``tasks.csv`` and ``report.html``."""
    data, folder = report_data(run, facts), run.layout.report
    shown, written = [], []
    for name, heading, caption, draw in FIGURES:
        figure = draw(data)
        if figure is not None:
            path = folder / f"{name}.png"
            words = f"{caption} {FINDINGS[name](data)}".rstrip() if name in FINDINGS else caption
            shown.append(Shown(heading=heading, caption=words, svg=save(figure, path)))
            written.append(path)
    written += draw_stream(run, facts) + draw_recoveries(run, facts)
    is_of_paper = is_split_imagenet(run.config)
    metrics = metric_rows(data.matrices)
    lead = what_words(run, record).replace("`", "")
    page = report_page(
        run.name,
        lead,
        results=data.results,
        figures=shown,
        infos=data.infos,
        sizes=data.sizes,
        metrics=metrics,
        is_of_paper=is_of_paper,
        config=sweep_yaml(run.config),
    )
    commit_text(folder / "tasks.csv", _csv(data.infos))
    commit_text(folder / "report.html", page)
    files = (*written, folder / "report.html")
    return Report(files=files, sizes=data.sizes, metrics=tuple(metrics), is_of_paper=is_of_paper)


def draw_or_warn(run: Run, record: RunRecord, display: Display, facts: MaskFacts) -> None:
    """Draw the report if the sweep asks for it; if that fails, show a message instead of failing the run."""
    if not run.config.tracking.figures:
        return
    try:
        draw_report(run, record, facts)
    # No error of a drawing may fail a finished run.
    except Exception as error:
        again = supsup_command("report", run.layout.root, config=run.config)
        display.message(f"the report was not drawn ({first_line(error)[:200]}); run `{again}` to try again")


def _csv(infos: Sequence[MaskInfo]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(MaskInfo.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(one) for one in infos)
    return text.getvalue()
