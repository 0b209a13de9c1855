"""The tutorial and the how-to pages work as they are written: each block runs, in order, in a new folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "docs/tutorial.md", *ROOT.glob("docs/how-to/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The tests themselves run in what this makes.
INSTALLS = "make install\nsource .venv/bin/activate\n"


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_block_of_the_page_runs(page, tmp_path):
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": paths, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
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
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=250, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
