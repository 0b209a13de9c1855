"""Results that a run's sweep asks for but that are missing, each with the reason."""

from dataclasses import dataclass

from core.errors import DamagedFileError, first_line
from orchestrator.runs.results import Results
from orchestrator.runs.run import Run
from orchestrator.stages import training_stage
from orchestrator.stages.base import missing_masks
from storage.mask_files import MaskFiles


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A result that was asked for and not measured.

    why: what is missing, as text. is_allowed: k exceeds the number of tasks of the sweep, which may grow, or all of
    these tasks were forgotten.
    """

    scenario: str
    k: int
    why: str
    is_allowed: bool = False

    def __str__(self) -> str:
        return f"{self.scenario} not evaluated at k = {self.k}: {self.why}"


def find_gaps(run: Run, results: Results, files: MaskFiles, *, may_exceed: bool = True) -> tuple[Gap, ...]:
    """Return what is missing in ``results``. may_exceed: allow k above the number of tasks."""
    evaluation, num_tasks = run.config.evaluation, run.config.benchmark.num_tasks
    found = {(one.scenario, one.k) for one in results.own(run)}
    ks = sorted({*evaluation.ks(num_tasks), *(evaluation.at or ())})
    return tuple(
        Gap(
            scenario=scenario,
            k=k,
            why=_why(run, files, scenario, k),
            is_allowed=(may_exceed and k > num_tasks) or not files.among(k),
        )
        for scenario in evaluation.asked
        for k in ks
        if (scenario, k) not in found
    )


def unsearched(run: Run) -> str | None:
    """Return, as text, which masks task inference leaves out because an earlier one is missing."""
    files = run.store.locate()
    progress, num_searched = training_stage(run.config).progress(run, files=files), len(files.leading)
    if progress.unit == "decisions" or num_searched >= progress.num_total:
        return None
    missing = set(progress.wanted) - files.keys()
    noun = "mask" if progress.unit == "masks" else "task"
    return (
        f"only the first {num_searched} of {progress.num_total} {progress.unit} are searched: "
        f"{missing_masks(missing, noun)}"
    )


def _why(run: Run, files: MaskFiles, scenario: str, k: int) -> str:
    try:
        return training_stage(run.config).why_not(run, files, scenario, k)
    except DamagedFileError as error:
        return first_line(error)
