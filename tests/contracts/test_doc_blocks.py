"""The tutorial and the how-to pages work as they are written: each block runs, in order, in a new folder.

So do the README's commands on the digits, which need no download.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = ("tutorial", "task-inference", "from-avalanche-or-mammoth")
PAGES = sorted([*(ROOT / f"docs/{name}.md" for name in NAMED), *ROOT.glob("docs/how-to/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The tests themselves run in what this makes.
INSTALLS = "make install\nsource .venv/bin/activate\n"


# The others take minutes, and show much the same as the README.
SHORT = ("own-network", "from-avalanche-or-mammoth")


def page_of(path: Path):
    marks = () if path.stem in SHORT else pytest.mark.long
    return pytest.param(path, id=path.stem, marks=marks)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page_of(page) for page in PAGES])
def test_every_block_of_the_page_runs(page, tmp_path):
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    found = blocks(page)
    assert found
    for language, text in found:
        if text == INSTALLS:
            continue
        named = re.match(r"# (\S+\.(?:yaml|py))\b", text)
        if named:
            (tmp_path / named[1]).write_text(text)
            continue
        command = {
            "bash": ["bash", "-euo", "pipefail", "-c", text],
            "python": [sys.executable, "-c", text],
        }[language]
        run(command, tmp_path, text)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_readmes_commands_on_the_digits_run_and_print_what_it_shows(tmp_path):
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    demo = re.search(r"^demo: .*\n\t\$\(VENV\)/bin/(.*)$", makefile, re.MULTILINE)
    assert demo is not None
    printed = run(["bash", "-c", demo[1]], tmp_path, demo[1])
    for line in re.findall(r"```text\n(.*?)```", readme, re.DOTALL)[0].splitlines():
        shown = re.sub(r" in \d+:\d\d$", "", line.strip())  # the time differs
        assert shown in printed, line
    commands = [text for text in re.findall(r"`(supsup [^`]*)`", readme) if "digits" in text]
    assert len(commands) >= 5
    for text in commands:
        run(["bash", "-euo", "pipefail", "-c", text], tmp_path, text)


def run(command: list[str], folder: Path, text: str) -> str:
    """Run a command with ``supsup`` and Python on the path; return what it printed."""
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": paths, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout
