"""Sentences that state a finding of a run; each depends on what was measured."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from orchestrator.execution.plan import number_ranges
from orchestrator.report.data import ReportData
from orchestrator.report.text import percent
from orchestrator.runs.results import GIVEN, Metrics, Result, Results
from storage.mask_info import MaskInfo

STEADY_POINTS = 0.5  # percentage points; a smaller change is none
ALIKE = 0.05  # relative difference of overlaps; a smaller one is none
NEAR_MARGIN = 0.02  # above twice chance
MANY_IMAGES = 128
FOUND = "task_inference_accuracy"


def scenario_finding(data: ReportData) -> str:
    """Return what more tasks, and inferring the task, cost in this run."""
    given = _accuracies(data.by_k.get(GIVEN, {}))
    inferred = next((by_k for name, by_k in data.by_k.items() if name != GIVEN), {})
    return " ".join(filter(None, (_given_words(given), _inferred_words(given, _accuracies(inferred)))))


def overlap_finding(data: ReportData) -> str:
    """Return whether masks share more weights than independent masks of the same densities."""
    if len(data.compared) < 2 or not data.chance_overlap:
        return ""
    ratio = data.overlap[~np.eye(len(data.compared), dtype=bool)].mean() / data.chance_overlap
    if abs(ratio - 1) < ALIKE:
        return "Masks share about as many weights as they would by chance."
    return f"Masks share {'more' if ratio > 1 else 'fewer'} weights than they would by chance."


def bytes_finding(data: ReportData) -> str:
    """Return whether an encoding goes below the entropy of independent weights."""
    if data.sizes is None:
        return ""
    smallest = min(data.sizes.encodings[:-1], key=lambda size: size.num_bytes)
    if smallest.num_bytes < data.sizes.entropy_bytes:
        return f"{smallest.encoding} goes below it: which weights are kept is correlated."
    return "No encoding here goes below it."


# By the name of the figure that the sentence stands below.
FINDINGS: Mapping[str, Callable[[ReportData], str]] = {
    "scenarios": scenario_finding,
    "overlap": overlap_finding,
    "bytes": bytes_finding,
}


def is_near_chance(share_right: float, k: int) -> bool:
    """Return whether task inference is hardly better than guessing one of ``k`` tasks.

    That is, whether the accuracy of the inferred tasks is below 2 / k plus a margin of 2 percentage
    points. Of few tasks 2 / k is a lot, so the limit is at most halfway from chance to 1.
    """
    chance = 1 / k
    return share_right < min(2 * chance + NEAR_MARGIN, (1 + chance) / 2)


def inference_warnings(results: Results) -> list[str]:
    """Return a warning, with what to try, for each method that infers tasks hardly better than chance."""
    worst = {
        one.method: one
        for one in results.ascending()
        if FOUND in one.metrics and is_near_chance(one.metrics[FOUND], num_candidates(one))
    }
    return [_warning(one) for one in worst.values()]


def mask_warnings(infos: Sequence[MaskInfo]) -> list[str]:
    """Return a warning, with what to try, if there are masks that keep no weight."""
    tasks = [info.task for info in infos if info.density == 0]
    if not tasks:
        return []
    masks, keep = ("the mask of task", "keeps") if len(tasks) == 1 else ("the masks of tasks", "keep")
    words = f"{masks} {number_ranges(tasks)} {keep} no weight (density 0), so that every image gets the same answer"
    return [f"training diverged: {words}. Try a smaller training.optimizer.lr, in a new run"]


def num_candidates(result: Result) -> int:
    """Return the number of masks searched: of tasks, or in a stream of allocated masks."""
    return max(1, int(result.metrics.get("num_masks", result.k)))


def _warning(result: Result) -> str:
    chance = percent(1 / num_candidates(result))
    return (
        f"{result.key}, {result.method} at k = {result.k:,}: the right task is found in "
        f"{percent(result.metrics[FOUND])}, near chance ({chance}). Try {_advice(result.method)}"
    )


def _advice(method: str) -> str:
    """Return what to try. method: its label, such as one_shot-G-1."""
    known = re.match(r"\w+-(?P<objective>[A-Z]+)-(?P<images>\d+)", method)
    tips = ["superfluous neurons (network.outputs above the number of classes, in a new run)"]
    if known is not None:
        other = "G" if known["objective"] == "H" else "H"
        tips.insert(0, f"objective {other} (evaluation.inference.objective={other})")
        if int(known["images"]) < MANY_IMAGES:
            tips.insert(0, f"more images (evaluation.inference.images={MANY_IMAGES})")
    return ", or ".join([", ".join(tips[:-1]), tips[-1]]) if len(tips) > 1 else tips[0]


def _accuracies(by_k: Mapping[int, Metrics]) -> dict[int, float]:
    """Return k -> accuracy in percent, k ascending."""
    return {k: 100 * metrics["accuracy"] for k, metrics in sorted(by_k.items())}


def _given_words(given: Mapping[int, float]) -> str:
    if len(given) < 2:
        return ""
    first, *later = given.values()
    lost = first - min(later)
    if lost <= STEADY_POINTS:
        return f"Nothing is forgotten: GG falls by {max(0.0, lost):.2f} points as tasks are added."
    return f"GG falls by {lost:.2f} points as tasks are added."


def _inferred_words(given: Mapping[int, float], inferred: Mapping[int, float]) -> str:
    both = sorted(given.keys() & inferred.keys())
    if not both:
        return ""
    cost = given[both[-1]] - inferred[both[-1]]
    if cost <= STEADY_POINTS:
        return f"Inferring the task costs next to nothing at k = {both[-1]:,}: {max(0.0, cost):.2f} points."
    return f"Inferring the task costs {cost:.2f} points at k = {both[-1]:,}."
