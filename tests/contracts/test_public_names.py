"""What ``import core``, ``storage`` and ``orchestrator`` offer by name, without loading anything heavy."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "storage", "orchestrator")
HEAVY = {"torch", "ray", "mlflow", "pyarrow", "numpy", "omegaconf", "pydantic", "matplotlib", "numba", "rich"}


def names_for_type_checkers(room: str) -> dict[str, str]:
    """Return name to module, as the ``if TYPE_CHECKING`` block of a package imports them."""
    tree = ast.parse((ROOT / room / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {alias.name: node.module for node in block.body for alias in node.names}


@pytest.mark.parametrize("room", ROOMS)
def test_the_public_names_are_those_that_type_checkers_see(room):
    package = importlib.import_module(room)
    assert package.__all__ == sorted(names_for_type_checkers(room)) == dir(package)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_what_its_module_has(room):
    package = importlib.import_module(room)
    for name, home in names_for_type_checkers(room).items():
        assert home.split(".")[0] == room
        assert getattr(package, name) is getattr(importlib.import_module(home), name), name


@pytest.mark.parametrize("room", ROOMS)
def test_an_unknown_name_is_an_attribute_error(room):
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'supermasks'"):
        importlib.import_module(room).supermasks  # noqa: B018


def test_importing_the_packages_loads_nothing_heavy():
    code = "import sys, core, storage, orchestrator; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
