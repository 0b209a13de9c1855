"""A user's folder with ``core/``, ``storage.py`` and ``orchestrator/``: our packages come first everywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import sweep_text

ROOT = Path(__file__).parents[2]
NETWORK = """
from torch import nn


def make(outputs, image_shape):
    channels, height, width = image_shape
    layers = nn.Linear(channels * height * width, 16, bias=False), nn.ReLU(), nn.Linear(16, outputs, bias=False)
    return nn.Sequential(nn.Flatten(), *layers)
"""


@pytest.fixture
def folder(tmp_path):
    """Return a user's folder with a sweep, and packages and a module of the names of ours."""
    for package in ("core", "orchestrator"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(
            "raise RuntimeError('the user has a package of this name')\n"
        )
    (tmp_path / "storage.py").write_text("raise RuntimeError('the user has a module of this name')\n")
    (tmp_path / "core" / "models.py").write_text(NETWORK)
    network = "{kind: module, import_path: core.models:make, outputs: 8}"
    (tmp_path / "sweep.yaml").write_text(sweep_text(tmp_path / "runs"))
    (tmp_path / "own.yaml").write_text(sweep_text(tmp_path / "runs", name="own", network=network))
    return tmp_path


def python(folder, *words):
    """Run a Python that finds the user's folder first."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "SUPSUP_ALLOW_CODE": "1"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("sweep", ["sweep.yaml", "own.yaml"])
def test_the_command_line(folder, sweep):
    done = python(folder, "-m", "supsup", "run", sweep)
    assert done.returncode == 0, done.stderr
    assert "4 tasks done" in done.stdout


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_ray_and_an_own_network_in_a_package_of_our_name(folder):
    done = python(folder, "-m", "supsup", "run", "own.yaml", "executor.kind=ray", "executor.workers=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 tasks done" in done.stdout


def test_a_script(folder):
    script = folder / "mine.py"
    script.write_text("import supsup\nprint(supsup.run('own.yaml', num_tasks=1, at=[1], quiet=True))\n")
    done = python(folder, script)
    assert "1 of 1 task, finished" in done.stdout, done.stderr


def test_a_package_imported_before_ours_is_named(folder):
    (folder / "core" / "__init__.py").write_text("")
    done = python(folder, "-c", "import core, supsup")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {folder}/core/__init__.py has the name of a package of supsup")


@pytest.mark.parametrize(
    ("files", "path", "words"),
    [
        (
            {"net.py": "import storage\nmake = storage.load()\n"},
            "net:make",
            "has the name of a package of supsup",
        ),
        ({"core/seeding.py": NETWORK}, "core.seeding:make", "core.seeding is a module of supsup"),
    ],
)
def test_what_python_cannot_import_beside_ours_is_named(folder, files, path, words):
    for name, text in files.items():
        (folder / name).write_text(text)
    done = python(folder, "-m", "supsup", "run", "own.yaml", f"network.import_path={path}")
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert not (folder / "runs").exists()
