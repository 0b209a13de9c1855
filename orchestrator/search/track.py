"""A search in MLflow: one run above those of its points, with the table, the figures and the best point."""

from collections.abc import Sequence

from core.errors import first_line
from orchestrator.config.sweep import SweepConfig
from orchestrator.execution.progress import Display
from orchestrator.search.points import SEARCH_FILE, PointResult, search_folder
from orchestrator.search.summary import best_point
from orchestrator.tracking.messages import TrackedSearch, absolute_uri
from storage.locations import AnyPath


def track_search(
    config: SweepConfig, results: Sequence[PointResult], figures: Sequence[AnyPath], display: Display
) -> None:
    """Send what a search came to; trouble with MLflow is said, never raised."""
    if config.tracking.uri is None:
        return
    from orchestrator.tracking.search_run import log_search  # imports mlflow

    try:
        log_search(absolute_uri(config.tracking.uri), _tracked_search(config, results, figures))
    # A tracker's trouble is never the search's.
    except Exception as error:
        display.message(
            f"MLflow has not taken the search ({first_line(error)[:160]}); the same command sends it again"
        )


def _tracked_search(
    config: SweepConfig, results: Sequence[PointResult], figures: Sequence[AnyPath]
) -> TrackedSearch:
    assert config.search is not None, "a search has a space"
    best, folder = best_point(config, results), search_folder(config)
    lines = [f"### {folder.name}", f"{len(results)} points over {', '.join(config.search.space)}."]
    tags = {f"space.{key}": str(list(values)) for key, values in config.search.space.items()}
    if best is not None:
        lines.append(f"**The best: {best.point}**, run `{best.point.run.name}`.")
        tags |= {f"best.{key}": str(value) for key, value in best.point.settings.items()}
    lines.append(f"Everything is in `{folder}`. The points' runs are the children of this one.")
    return TrackedSearch(
        experiment=config.name,
        name=folder.name,
        tags=tags,
        metrics={} if best is None else best.metrics,
        artifacts=(folder / SEARCH_FILE, *figures),
        note="\n\n".join(lines),
        status="FAILED" if any(result.error for result in results) else "FINISHED",
    )
