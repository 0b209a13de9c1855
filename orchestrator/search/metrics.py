"""The metrics of a search: which are shown, under which names, in which units."""

from collections.abc import Sequence

from orchestrator.config.sweep import SweepConfig
from orchestrator.search.settings import SettingResult, search_config

# The metrics shown, by the end of their MLflow name: column heading, axis label.
SHOWN = {
    "/accuracy": ("", "accuracy, %"),
    "/task_inference_accuracy": ("task right", "task right, %"),
    "/recovered": ("found exactly", "masks found exactly, %"),
    "/num_masks": ("masks", "masks allocated"),
    "/num_missed": ("missed", "tasks missed"),
    "/num_duplicates": ("duplicate", "duplicate masks"),
}


def metric_name(config: SweepConfig, results: Sequence[SettingResult]) -> str | None:
    """Return the metric that ranks the settings, None if no setting has it."""
    names = metric_names(results)
    wanted = search_config(config).metric
    if wanted is not None:
        return wanted if wanted in names else None
    return next((name for name in names if name.endswith("/accuracy")), None)


def metric_names(results: Sequence[SettingResult]) -> list[str]:
    """Return the metrics of all results, by MLflow's names."""
    return list(dict.fromkeys(name for result in results for name in result.metrics))


def shown_metrics(results: Sequence[SettingResult]) -> list[str]:
    """Return the metrics of which tables have a column and figures a panel."""
    return [name for name in metric_names(results) if _end(name)]


def value_words(value: object) -> str:
    """Return a value of a setting as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _end(name: str) -> str | None:
    return next((end for end in SHOWN if name.endswith(end)), None)


def heading(name: str) -> str:
    """Return a column heading: GG/accuracy becomes GG."""
    return SHOWN[_end(name) or ""][0] or name.split("/", maxsplit=1)[0]


def label(name: str) -> str:
    """Return an axis label: GG/accuracy becomes "GG accuracy, %"."""
    return f"{name.split('/', maxsplit=1)[0]} {SHOWN[_end(name) or ''][1]}"


def scaled(name: str, value: float) -> float:
    """Return a metric in the unit of its label: percent, or a number."""
    return value if "/num_" in name else 100 * value


def cell(name: str, value: float | None) -> str:
    """Return a metric as text, with its unit."""
    if value is None:
        return "-"
    return f"{value:.0f}" if "/num_" in name else f"{100 * value:.2f} %"
