"""``report/report.json``: what a report was drawn from, so that it is drawn again only where something changed."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestrator.config.load import sweep_yaml
from orchestrator.report.mask_sizes import MaskSizes, Size, is_split_imagenet
from orchestrator.report.text import what_words
from orchestrator.runs.history import read_sessions
from orchestrator.runs.run import Run
from storage.files import commit_json
from storage.layout import temporary_writer
from storage.locations import Location, listed, plain_file
from storage.mask_facts import MaskFacts
from storage.run_file import RunRecord

DRAWERS = ("supsup", "matplotlib")  # packages that decide how a report looks


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report. files: the figures, then the page. sizes: bytes per task, None without masks. metrics: see ``metric_rows``.

    is_of_paper: whether the paper's table of bytes is about this run's benchmark and network. is_new: drawn
    just now; not part of what it is.
    """

    files: tuple[Location, ...]
    sizes: MaskSizes | None
    metrics: tuple[tuple[str, ...], ...] = ()
    is_of_paper: bool
    is_new: bool = field(default=True, compare=False)


def sources_digest(run: Run, record: RunRecord, facts: MaskFacts) -> str:
    """Return a digest of all that a report shows, and of the code that draws it."""
    digest = hashlib.sha256()
    for name, value in _sources(run, record, facts):
        digest.update(f"{name} {len(value)}\n".encode() + value)
    return digest.hexdigest()


def _sources(run: Run, record: RunRecord, facts: MaskFacts) -> Iterator[tuple[str, bytes]]:
    yield "code", _code()
    yield "words", json.dumps([run.name, what_words(run, record), sweep_yaml(run.config)]).encode()
    for column in facts.table.column_names:
        yield column, json.dumps(facts.table[column].to_pylist()).encode()
    last_s = max(facts.table["started_s"].to_pylist(), default=0.0)
    begun_s = [one.started_s for one in read_sessions(run.layout) if one.started_s <= last_s]
    yield "sessions", json.dumps(begun_s).encode()
    for path in _files(run):
        yield path.name, plain_file(path).read_bytes()


def _code() -> bytes:
    versions = "".join(f"{name} {version(name)}\n" for name in DRAWERS).encode()
    return versions + b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))


def _files(run: Run) -> list[Location]:
    """Return the files that are shown, besides those of masks."""
    layout = run.layout
    shown = [*listed(layout.evaluations, "*.parquet"), *listed(layout.report, "confusion-*.parquet")]
    shown += [path for path in (layout.summary, layout.decisions) if path.exists()]
    return [path for path in shown if temporary_writer(path.name) is None]


def find_report(run: Run, made_from: str) -> Report | None:
    """Return the report that was drawn from this, None if there is none or a file of it changed."""
    folder = run.layout.report
    try:
        content = json.loads(plain_file(run.layout.report_record).read_bytes())
        if content["made_from"] != made_from or content["sha256"] != _digests(folder, content["sha256"]):
            return None
        files, sizes = tuple(folder / name for name in content["files"]), content["sizes"]
        sizes = None if sizes is None else _mask_sizes(**sizes)
        metrics, is_of_paper = tuple(map(tuple, content["metrics"])), is_split_imagenet(run.config)
        return Report(files=files, sizes=sizes, metrics=metrics, is_of_paper=is_of_paper, is_new=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def note_report(run: Run, report: Report, made_from: str) -> None:
    """Commit what ``find_report`` reads."""
    folder, names = run.layout.report, [path.name for path in report.files]
    drawn = [f"{path.stem}.svg" for path in report.files if path.suffix == ".png"]
    content = {
        "made_from": made_from,
        "files": names,
        "sha256": _digests(folder, [*names, *drawn, "tasks.csv"]),
        "metrics": report.metrics,
        "sizes": None if report.sizes is None else asdict(report.sizes),
    }
    commit_json(run.layout.report_record, content)


def _mask_sizes(encodings: list[dict[str, Any]], **rest: Any) -> MaskSizes:
    return MaskSizes(encodings=tuple(Size(**one) for one in encodings), **rest)


def _digests(folder: Location, names: Iterable[str]) -> dict[str, str]:
    return {name: hashlib.sha256(plain_file(folder / name).read_bytes()).hexdigest() for name in names}
