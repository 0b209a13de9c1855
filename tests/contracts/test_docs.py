"""What the documents say is so: links, commands, sweep files, folder names."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from orchestrator.cli import app
from orchestrator.config import load_sweep
from orchestrator.run_folder import locate_run

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("storage/*.md"), *ROOT.glob("perf/**/*.md")]
)
README = (ROOT / "README.md").read_text()


def commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    whole = [block.replace("\\\n", " ") for block in blocks]
    lines = [shlex.split(line, comments=True) for block in whole for line in block.splitlines()]
    return [words for words in lines if words]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_every_command_of_the_readme_exists_and_its_sweep_is_valid():
    known = set(typer.main.get_command(app).commands)
    ours = [[w for w in words if w != "--allow-code"] for words in commands(README) if words[0] == "supsup"]
    assert len(ours) >= 8
    for words in ours:
        assert words[1] in known, words
        if words[1] in ("run", "plan"):
            load_sweep(ROOT / words[2], words[3:])


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", README):
        if target != "and":
            assert f"\n{target}:" in makefile, target


def test_the_readme_names_every_command_and_sweep():
    for name in typer.main.get_command(app).commands:
        assert f"`supsup {name}" in README
    for sweep in ROOT.glob("sweeps/*.yaml"):
        assert f"`sweeps/{sweep.name}`" in README


@pytest.mark.parametrize("sweep", ["permuted_10", "hopsupsup_split_mnist"])
def test_the_run_folder_in_the_readme_is_the_one_that_is_made(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = locate_run(load_sweep(ROOT / "sweeps" / f"{sweep}.yaml")).name
    assert set(re.findall(rf"runs/({sweep}-[0-9a-f]{{8}})", README)) == {name}
