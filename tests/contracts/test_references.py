"""Names of ours in docstrings and comments still exist: ``core.training.cohort.train_cohort`` and the like."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from orchestrator.config.load import config_values, dotted_keys, load_sweep

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"``((?:core|storage|orchestrator)(?:\.\w+)+)(?:\([^`]*\))?``")
SOURCES = [
    path for room in ("core", "storage", "orchestrator") for path in sorted((ROOT / room).rglob("*.py"))
]


def names(text: str) -> list[str]:
    """Return the dotted names of ours in double backticks; a docstring may break a line before one, not within."""
    return NAME.findall(text)


def exists(name: str) -> bool:
    """Return whether a dotted name is a module of ours, or something that one has."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return _has(found, parts[length:])
    return False


def _has(found: object, parts: list[str]) -> bool:
    if not parts:
        return True
    if dataclasses.is_dataclass(found) and parts[0] in {field.name for field in dataclasses.fields(found)}:
        return len(parts) == 1
    return hasattr(found, parts[0]) and _has(getattr(found, parts[0]), parts[1:])


def test_names_in_docstrings_resolve():
    keys = dotted_keys(config_values(load_sweep(ROOT / "sweeps" / "digits_10.yaml")))
    found = {
        (path.relative_to(ROOT).as_posix(), name) for path in SOURCES for name in names(path.read_text())
    }
    assert len(found) > 20
    assert sorted((place, name) for place, name in found if name not in keys and not exists(name)) == []


@pytest.mark.parametrize(
    ("name", "is_there"),
    [
        ("core.training.cohort", True),
        ("core.training.cohort.train_cohort", True),
        ("core.specs.run.RunSpec.seed", True),
        ("storage.layout.RunLayout.masks", True),
        ("core.training.cohort.cohort_peak_bytes", False),
        ("orchestrator.fault_policy", False),
        ("core.specs.run.RunSpec.seed.nothing", False),
    ],
)
def test_the_check_knows_what_exists(name, is_there):
    assert names(f"See ``{name}``.") == [name]
    assert exists(name) is is_there
