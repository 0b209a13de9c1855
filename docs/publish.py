"""Fill the tables of README.md and docs/results.md from docs/results, which `supsup reproduce` writes.

supsup reproduce --read --out docs/results     # from the folder that holds runs/
python docs/publish.py                         # only fills what stands between <!-- name --> marks
"""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.report.text import duration
from orchestrator.reproduce.figures import POINTS, read_tables, values_by_k
from orchestrator.reproduce.page import read_results, verdict_table
from orchestrator.reproduce.targets import load_targets

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
TABLES = {"headline": "T5", "headline-fc": "T3"}  # block: target
SHORT_KS = (10, 1000, 2500)  # rows of the README's table
WAYS = {"G": ("one_shot-G-1-drawn", "one_shot-G-1"), "H": ("one_shot-H-1-drawn", "one_shot-H-1")}


def blocks() -> dict[str, str]:
    """Return what stands between the marks, by name."""
    values = read_results(RESULTS, load_targets([]))
    differs = [f"- **{one['target']}.** {one['differs']}" for one in values]
    return {
        "verdicts": verdict_table(values),
        "differs": "\n".join(differs),
        "soak": soak_table(json.loads((RESULTS / "soak.json").read_text())),
        "headline-short": headline_table(read_tables(RESULTS, TABLES["headline"])[POINTS], SHORT_KS),
        **{name: headline_table(read_tables(RESULTS, target)[POINTS]) for name, target in TABLES.items()},
    }


def soak_table(record: dict[str, Any]) -> str:
    """Return what tests/soak recorded, as a Markdown table."""
    kills, tasks = record["kills"], record["tasks"]
    ended = ", ".join(f"exit code {code}: {times} times" for code, times in record["ended_by_itself"].items())
    rows = {
        "kills": ", ".join(
            [str(sum(kills.values())), *(f"{kind} {num}" for kind, num in sorted(kills.items()))]
        ),
        "masks lost": f"{record['masks_lost']} of {tasks}",
        "digests different": f"{record['digests_different']} of {tasks}",
        "hung": record["hung"],
        "temporary files left": record["temporaries_left"],
        "faults in MLflow": len(record["mlflow_faults"]),
        "ended by itself, and went on with the same command": ended or "never",
        "time": duration(record["killed_s"]),
        "time undisturbed, inline": duration(record["undisturbed_s"]),
    }
    lines = ["| what | seen |", "| --- | --- |", *(f"| {what} | {seen} |" for what, seen in rows.items())]
    return "\n".join(lines)


def headline_table(measurements: pa.Table, ks: Collection[int] | None = None) -> str:
    """Return accuracy and task inference by the number of tasks learned, as a Markdown table.

    ks: rows to show, None for all.
    """
    given = values_by_k(measurements, "GG", "", "accuracy")
    whole = measurements.filter(pc.equal(pc.cast(measurements["batches"], pa.string()), "all"))
    all_images = values_by_k(whole, "GG", "", "accuracy")
    columns = [] if all_images == given else [("task given (GG), all images", all_images)]
    columns.append(("task given (GG)", given))
    measured = set(measurements["method"].to_pylist())
    for objective, methods in WAYS.items():
        method = next((one for one in methods if one in measured), methods[0])
        columns.append(
            (f"not given (GNu, {objective})", values_by_k(measurements, "GNu", method, "accuracy"))
        )
        right = values_by_k(measurements, "GNu", method, "task_inference_accuracy")
        columns.append((f"right task ({objective})", right))
    shown = [(head, by_k) for head, by_k in columns if by_k]
    asked = sorted(k for k in {k for _, by_k in shown[1:] for k in by_k} if ks is None or k in ks)
    lines = [["tasks learned", *(head for head, _ in shown)], ["---"] * (len(shown) + 1)]
    lines += [[f"{k:,}", *(f"{100 * v[k]:.2f} %" if k in v else "-" for _, v in shown)] for k in asked]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def filled(text: str, content: dict[str, str]) -> str:
    """Return a page with its blocks filled."""
    for name, block in content.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = marks.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(), blocks()))
