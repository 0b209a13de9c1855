"""What was measured at one place, as text: accuracy, right tasks, what they are shares of, intervals. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from core.metrics import wilson
from orchestrator.report.text import percent
from orchestrator.reproduce.measure import Measurement, values_at

RIGHT_TASK = "task_inference_accuracy"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Cells of a verdict's row: accuracy, share of inferences that found the task, distinct deciding images."""

    accuracy: str = "-"
    right_task: str = "-"
    num_deciding_images: str = "-"


def shown(measurements: Sequence[Measurement], run: str, metric: str, k: int) -> Shown:
    """Return what was measured in the scenario and by the method of ``metric`` at k tasks."""
    place = metric.rpartition("/")[0]
    accuracy, right, images, inferences, deciding = (
        values_at(measurements, run, f"{place}/{name}", k)
        for name in ("accuracy", RIGHT_TASK, "num_images", "num_inferences", "num_deciding_images")
    )
    return Shown(
        accuracy=measured_text(accuracy) + _share_text(accuracy, images, "images"),
        right_task=measured_text(right) + _share_text(right, inferences, "inferences"),
        num_deciding_images=f"{max(deciding):,.0f}" if deciding else "-",
    )


def measured_text(values: Sequence[float]) -> str:
    """Return the mean over seeds with its standard deviation, in percent."""
    if not values:
        return "-"
    if len(values) == 1:
        return percent(values[0])
    return f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f} %"


def _share_text(shares: Sequence[float], nums: Sequence[float], of: str) -> str:
    """Return Wilson's interval of all seeds together and what it is a share of; empty if that is unknown."""
    if not shares or len(nums) != len(shares):
        return ""
    low, high = wilson(mean(shares), int(sum(nums)))
    return f" ({100 * low:.2f} to {100 * high:.2f}; {sum(nums):,.0f} {of})"
