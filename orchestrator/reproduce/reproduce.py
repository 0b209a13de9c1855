"""``supsup reproduce``: run or resume the sweeps of the paper's targets, then judge the results."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.data.datasets import load_dataset
from orchestrator.config.load import change_settings
from orchestrator.evaluate import SECTIONS, data_location, evaluate_run
from orchestrator.execution.controller import Failure
from orchestrator.execution.progress import Display
from orchestrator.reproduce.measure import Measurement, RunFacts, TargetFolders, measured, target_folders
from orchestrator.reproduce.targets import Target, TargetRun, departures
from orchestrator.reproduce.verdict import Verdict, judge
from orchestrator.runs.run import Run
from orchestrator.status import complete_results
from orchestrator.sweep import run_sweep
from storage.locations import Location
from storage.verify import verify_masks

FOLDER = "reproduce"  # beside the run folders


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """The verdict on a target, with its runs. settings: of the command, on top of the target's."""

    target: Target
    settings: tuple[str, ...]
    verdict: Verdict
    facts: tuple[RunFacts, ...]
    measurements: tuple[Measurement, ...]


def check_targets(targets: Sequence[Target], settings: Sequence[str], data_folder: Path | None) -> None:
    """Raise InputError if a sweep, a setting or a data set is invalid; writes nothing."""
    configs = [run.config for target in targets for _, _, run in target_folders(target, settings)]
    needed = {(config.benchmark.dataset, config.benchmark.folder): config for config in configs}
    for config in needed.values():
        load_dataset(config.benchmark, data_location(config, data_folder))


def run_target(
    folders: TargetFolders, settings: Sequence[str], data_folder: Path | None, display: Display
) -> list[Failure]:
    """Run the missing runs and evaluations of a target; return the failures."""
    failures: list[Failure] = []
    for one, _, run in folders:
        folder = data_location(run.config, data_folder)
        if complete_results(run) is not None and not verify_masks(run.store).problems:
            display.message(f"{run.name}: complete")
        else:
            failures += run_sweep(run.config, folder, display).failures
        failures += _evaluate_more(one, run, settings, folder, display)
    return failures


def read_target(target: Target, settings: Sequence[str], folders: TargetFolders) -> TargetResult:
    """Judge a target by its stored results, without running anything."""
    facts, measurements = measured(folders)
    return TargetResult(
        target=target,
        settings=tuple(settings),
        verdict=judge(target, measurements, departures(settings)),
        facts=tuple(facts),
        measurements=tuple(measurements),
    )


def reproduce_folder(folders: TargetFolders) -> Location:
    """Return the default folder of a target's verdict."""
    return folders[0][2].layout.root.parent / FOLDER


def _evaluate_more(
    one: TargetRun, run: Run, settings: Sequence[str], data_folder: Path | None, display: Display
) -> list[Failure]:
    """Evaluate the masks with the target's further methods, at the same k and on the same test batches."""
    evaluation = run.config.evaluation
    same = [f"evaluation.batches={evaluation.batches}"]
    if evaluation.at is not None:
        same.append(f"evaluation.at={list(evaluation.at)}")
    same += [setting for setting in settings if setting.startswith(("executor.", "tracking.", "data_dir="))]
    failures: list[Failure] = []
    for more in one.evaluate:
        changed = replace(run, config=change_settings(run.config, [*same, *more], SECTIONS))
        if complete_results(changed) is None:
            failures += evaluate_run(run.layout.root, [*same, *more], data_folder, display).failures
    return failures
