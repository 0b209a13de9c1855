"""``report/report.html``: a self-contained page with all figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from orchestrator.report.findings import inference_warnings, mask_warnings
from orchestrator.report.mask_sizes import HEADS, PAPER_CAVEAT, PAPER_HEADS, PAPER_ROWS, MaskSizes
from orchestrator.report.tables import METRIC_HEADS, RESULT_HEADS, result_rows
from orchestrator.report.text import percent
from orchestrator.runs.results import Results
from storage.mask_info import MaskInfo

MAX_ROWS = 50  # tasks in the table; the rest is in tasks.csv

STYLE = """
:root{color-scheme:light dark;--ink:#212223;--paper:#fff;--line:#d9dadb;--soft:#f4f5f6;--link:#0072b2}
@media(prefers-color-scheme:dark){:root{--ink:#d8d9da;--paper:#17181a;--line:#3a3c3f;--soft:#222427;--link:#56b4e9}}
body{margin:0 auto;max-width:72rem;padding:1.5rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,"DejaVu Sans",sans-serif}
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:0 0 .2rem}p{margin:.3rem 0}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,30rem),1fr));gap:1.5rem;margin:1.5rem 0}
figure{margin:0;padding:1rem;border:1px solid var(--line);border-radius:.5rem}
figure svg{width:100%;height:auto;max-height:26rem}figcaption p{font-size:.9rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.7rem 0}
a{color:var(--link)}th,td{text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid var(--line);font-size:.92rem}
summary{cursor:pointer;font-weight:600;margin:.8rem 0}
pre{background:var(--soft);padding:1rem;overflow:auto;border-radius:.5rem;font-size:.85rem}
.wide{overflow-x:auto}
.warning{border-left:.25rem solid #d55e00;padding-left:.7rem}
"""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure on the page."""

    heading: str
    caption: str
    svg: str


def report_page(
    name: str,
    lead: str,
    *,
    results: Results,
    figures: Sequence[Shown],
    infos: Sequence[MaskInfo],
    sizes: MaskSizes | None,
    metrics: Sequence[Sequence[str]],
    is_of_paper: bool,
    config: str,
) -> str:
    """Return the page. metrics: see ``metric_rows``. lead: text below the title. config: the sweep, as YAML.

    is_of_paper: whether the paper's table of bytes is about this run.
    """
    parts = [
        html_table(RESULT_HEADS, rows) if (rows := result_rows(results)) else "",
        _metrics(metrics),
        *(
            f'<p class="warning">{escape(words)}.</p>'
            for words in (*inference_warnings(results), *mask_warnings(infos))
        ),
        f"<main>{''.join(map(html_figure, figures))}</main>",
        _bytes(sizes, is_of_paper=is_of_paper),
        _tasks(infos),
        html_sweep(config),
    ]
    return html_page(name, lead, parts)


def html_page(name: str, lead: str, parts: Sequence[str]) -> str:
    """Return a whole page. lead: text below the title. parts: HTML."""
    head = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(name)}</title><style>{STYLE}</style></head><body>",
        f"<header><h1>{escape(name)}</h1><p>{escape(lead)}</p></header>",
    ]
    return "\n".join([*head, *parts, "</body></html>"])


def html_sweep(config: str) -> str:
    """Return a sweep, folded. config: YAML."""
    return f"<details><summary>The sweep</summary><pre>{escape(config)}</pre></details>"


def html_figure(shown: Shown) -> str:
    """Return a figure with its heading and caption."""
    words = f"<h2>{escape(shown.heading)}</h2><p>{escape(shown.caption)}</p>"
    svg = shown.svg[shown.svg.index("<svg") :]
    label = f'role="img" aria-label="{escape(shown.heading)}"'
    return f"<figure><figcaption>{words}</figcaption>{svg.replace('<svg', f'<svg {label}', 1)}</figure>"


def _metrics(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    return f"<details open><summary>Metrics</summary>{html_table(METRIC_HEADS, rows)}</details>"


def _bytes(sizes: MaskSizes | None, *, is_of_paper: bool) -> str:
    if sizes is None:
        return ""
    norms = (
        f"<p>Another {sizes.num_norm_bytes:,.0f} bytes of running statistics are stored with each mask.</p>"
    )
    paper = f"{html_table(PAPER_HEADS, PAPER_ROWS)}<p>{escape(PAPER_CAVEAT)}</p>"
    return (
        f"<details open><summary>Bytes of a task</summary>{html_table(HEADS, sizes.rows())}"
        f"{norms if sizes.num_norm_bytes else ''}{paper if is_of_paper else ''}</details>"
    )


def _tasks(infos: Sequence[MaskInfo]) -> str:
    if not infos:
        return ""
    worst = sorted(infos, key=lambda one: (one.test_accuracy, one.task))[:MAX_ROWS]
    rows = [
        [
            str(one.task),
            percent(one.test_accuracy),
            f"{one.train_loss:.4f}",
            f"{one.density:.4f}",
            f"{one.train_seconds:.2f} s",
            f"{one.num_bytes:,}",
            one.digest[:12],
        ]
        for one in worst
    ]
    heads = ["task", "accuracy", "train loss", "density", "training", "bytes", "digest"]
    few = "" if len(infos) <= MAX_ROWS else f", the {MAX_ROWS} worst of {len(infos):,}"
    return f"<details open><summary>Tasks, worst first{few}</summary>{html_table(heads, rows)}</details>"


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]], links: Sequence[str] = ()) -> str:
    """Return a table. links: where the last cell of each row leads, if anywhere."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    lines = [[escape(cell) for cell in row] for row in rows]
    for line, link in zip(lines, links, strict=False):
        if link:
            line[-1] = f'<a href="{escape(quote(link))}">{line[-1]}</a>'
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
