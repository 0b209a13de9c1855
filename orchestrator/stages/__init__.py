"""The controller's half of each kind of work, and the registry of kinds. No torch.

A new kind of work is a file here, a file of the same name in ``worker/``, and a line in each registry.
"""

from typing import TYPE_CHECKING

from core.errors import ConfigError

if TYPE_CHECKING:
    from orchestrator.config.sweep import SweepConfig
    from orchestrator.stages.base import Stage, TrainingStage


def training_stage(config: "SweepConfig") -> "TrainingStage":
    """Return the training stage of a sweep."""
    from orchestrator.stages.baseline import Baseline
    from orchestrator.stages.stream import Stream
    from orchestrator.stages.supermasks import Supermasks

    if config.baseline is not None:
        return Baseline()
    if not config.training.is_given:
        return Stream()
    return Supermasks(in_order=config.training.transfer != "none")


def require_independent(config: "SweepConfig", source: str) -> None:
    """Raise ConfigError if the tasks of a sweep depend on each other. source: what asked for some of them."""
    tie = training_stage(config).tie
    if tie is not None:
        raise ConfigError(f"{source}: {tie}, so one task cannot be taken without the others")


def evaluation_stages(config: "SweepConfig") -> "tuple[Stage, ...]":
    """Return the evaluation stages of a sweep, in order; none for a baseline, tested while it trains."""
    from orchestrator.stages.given import Given
    from orchestrator.stages.inferred import Inferred
    from orchestrator.stages.recovered import Recovered

    if config.baseline is not None:
        return ()
    stages: list[Stage] = [Given()] if "GG" in config.evaluation.asked else []
    if config.evaluation.inferred_scenarios:
        method = config.evaluation.method.label
        stages.append(Recovered(method) if config.evaluation.hopfield is not None else Inferred(method))
    return tuple(stages)
