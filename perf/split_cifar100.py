"""Accuracy against density on SplitCIFAR-100, with baselines: a figure and tables from stored runs.

python perf/split_cifar100.py runs docs/split_cifar100.png: after the sweeps split_cifar100_short,
_baselines, _heads and _batch_ensemble.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.report.draw import COLOURS, INK, MARKERS, make_log, name_axes, new_figure, save
from orchestrator.runs.run import open_run

SIZE = (6.4, 4.2)
WORDS = {"none": "SupSup", "masks": "SupSup, transfer of masks", "scores": "SupSup, transfer of scores"}


def main(runs: Path, out: Path) -> None:
    """Draw, and print Markdown."""
    points = _supermasks(runs)
    lines = _baselines(runs)
    figure, (axis,) = new_figure(1, SIZE)
    for number, (transfer, words) in enumerate(WORDS.items()):
        of_kind = sorted((p["density"], 100 * p["accuracy"]) for p in points if p["transfer"] == transfer)
        axis.plot(*zip(*of_kind, strict=True), color=COLOURS[number], marker=MARKERS[number], label=words)
    above = 100.0
    for number, (words, accuracy) in enumerate(lines):
        # Best first; of two lines close to each other, the lower one is named below.
        height = 100 * accuracy
        axis.axhline(height, color=COLOURS[6], linestyle="--", linewidth=1)
        is_close, above = above - height < 2, height
        axis.annotate(
            words,
            ((0.55, 0.75, 0.9)[number % 3], height),
            (0, -3 if is_close else 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="center",
            va="top" if is_close else "bottom",
            fontsize=8,
        )
    make_log(axis)
    name_axes(axis, "density (fraction of weights kept)", "accuracy, task given (GG), %")
    axis.legend(fontsize=8, frameon=False, labelcolor=INK, loc=(0.02, 0.07))
    save(figure, out)
    _print(points, lines)


def _supermasks(runs: Path) -> list[dict[str, Any]]:
    found = []
    for point in _search(runs, "split_cifar100_short"):
        run, _ = open_run(Path(point["folder"]))
        infos = run.store.facts().infos()
        found.append(
            {
                "multiplier": point["settings"]["mask.density_multiplier"],
                "transfer": point["settings"]["training.transfer"],
                "accuracy": point["metrics"]["GG/accuracy"],
                "density": float(np.mean([one.density for one in infos])),
                "num_bytes": float(np.mean([one.num_bytes for one in infos])),
                "num_norm_bytes": float(np.mean([one.num_norm_bytes for one in infos])),
            }
        )
    return found


def _baselines(runs: Path) -> list[tuple[str, float]]:
    found = []
    for name in ("baselines", "heads", "batch_ensemble"):
        for point in _search(runs, f"split_cifar100_{name}"):
            run, _ = open_run(Path(point["folder"]))
            assert run.config.baseline is not None, "a sweep of baselines"
            random = ", random weights" if run.config.baseline.random_weights else ""
            words = run.config.baseline.kind.replace("_", " ") + random
            found.append((words, point["metrics"]["GG/accuracy"]))
    return sorted(found, key=lambda pair: -pair[1])


def _search(runs: Path, name: str) -> list[dict[str, Any]]:
    path = runs / f"{name}-search" / "search.json"
    points = json.loads(path.read_text())["points"] if path.exists() else []
    return [point for point in points if point["state"] == "done"]


def _print(points: list[dict[str, Any]], lines: list[tuple[str, float]]) -> None:
    print("| S | density | bytes of a mask | statistics | GG % | transfer of masks | of scores |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for multiplier in sorted({p["multiplier"] for p in points}):
        row = {p["transfer"]: p for p in points if p["multiplier"] == multiplier}
        cells = [f"{100 * row[kind]['accuracy']:.2f}" if kind in row else "" for kind in WORDS]
        one = next(iter(row.values()))
        sizes = f"{one['density']:.4f} | {one['num_bytes']:,.0f} | {one['num_norm_bytes']:,.0f}"
        print(f"| {multiplier:g} | {sizes} | {' | '.join(cells)} |")
    print("\n| baseline | GG % |\n| --- | --- |")
    for words, accuracy in lines:
        print(f"| {words} | {100 * accuracy:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
