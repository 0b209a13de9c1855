"""Formatting shared by tables, pages and commands: percentages, bytes, durations, paths."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from core.errors import plural
from core.printing import printable
from orchestrator.config.sweep import SweepConfig
from orchestrator.runs.run import Run
from storage.locations import Location, ObjectPath
from storage.run_file import RunRecord

MAX_LEFT_OUT = 8  # folders in a message


def percent(fraction: float) -> str:
    """Format a fraction as a percentage: 12.34 %."""
    return f"{100 * fraction:.2f} %"


def byte_words(size: float) -> str:
    """Format a number of bytes: 39.4 kB."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} B"


def print_plain(console: Console, text: str) -> None:
    """Print text without markup, highlighting, wrapping, control characters or passwords."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def left_out_words(left_out: Sequence[str]) -> str | None:
    """Return which files of a folder of images are not read (``Dataset.left_out``), as text; None if none."""
    if not left_out:
        return None
    more = len(left_out) - MAX_LEFT_OUT
    lines = [*left_out[:MAX_LEFT_OUT], *([f"and in {more} more folders"] if more > 0 else [])]
    return "\n".join(["warning: left out of the images:", *(f"  {line}" for line in lines)])


def duration(seconds: float) -> str:
    """Format seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def short(path: Location) -> str:
    """Return a path relative to the working folder, if it is inside it."""
    if isinstance(path, ObjectPath):
        return str(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def sweep_words(identity: str) -> str:
    """Return the id of a sweep with its meaning. identity: ``orchestrator.cluster.submission.sweep_id``."""
    return f"{identity} (the name and a hash of the sweep file, for `ray submit`)"


def what_words(run: Run, record: RunRecord) -> str:
    """Return a short description of a run, as text."""
    spec = run.config
    weights = sum(layer.num_weights for layer in run.layers)
    training = spec.training
    length = (
        plural(training.num_steps, "batch") if training.epochs is None else plural(training.epochs, "epoch")
    )
    return (
        f"{plural(record.num_tasks, f'{spec.benchmark.kind} task')} of {spec.benchmark.dataset}. One fixed "
        f"`{spec.network.kind}` of {weights:,} weights and {plural(spec.network.outputs, 'output')}, seed {spec.seed}; "
        f"{_method_words(spec)}, trained on {length} of {training.batch_size} "
        f"({training.optimizer.kind}, learning rate {training.optimizer.lr:g})."
    )


def _method_words(spec: SweepConfig) -> str:
    """Return what is learned for each task, as text."""
    if spec.baseline is not None:
        random = " on random weights" if spec.baseline.random_weights else ""
        return f"the baseline {spec.baseline.import_path or spec.baseline.kind}{random} instead of supermasks"
    words = "a supermask for each task"
    if spec.mask.rule == "top_k":
        by_density = spec.mask.density is not None
        value = spec.mask.density if by_density else spec.mask.density_multiplier
        words += f" (top_k, {'density' if by_density else 'density multiplier'} {value:g})"
    transfer = spec.training.transfer
    return words if transfer == "none" else f"{words}, from the mean of the {transfer} before it"
