"""What the documents say is so: links, commands, sweep files, folder names."""

import importlib.util
import itertools
import re
import shlex
from pathlib import Path

import pytest
import typer

from orchestrator.cli.main import app
from orchestrator.config.load import load_sweep
from orchestrator.config.reference import reference
from orchestrator.runs.run import locate_run

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("storage/*.md"), *ROOT.glob("perf/**/*.md")]
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


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=lambda p: p.stem)
def test_commands_in_the_documents_exist_and_their_sweeps_are_valid(page):
    known = set(typer.main.get_command(app).commands)
    for words in commands(page.read_text()):
        ours = [w for w in words if w != "--allow-code"]
        if ours[0] != "supsup":
            continue
        assert ours[1] in known, words
        if ours[1] in ("run", "plan", "submit") and (ROOT / ours[2]).is_file():
            settings = itertools.takewhile(lambda w: w not in ("&", "|", ">"), ours[3:])
            load_sweep(ROOT / ours[2], [w for w in settings if "=" in w and not w.startswith("-")])


def test_the_reference_is_that_of_the_classes_and_says_what_every_key_means():
    assert (ROOT / "docs" / "reference.md").read_text() == reference(), (
        "python -m orchestrator.config.reference"
    )
    assert all(row.rsplit("|", 2)[1].strip() for row in reference().splitlines() if row.startswith("| `"))


def test_published_tables_are_those_of_the_stored_results():
    spec = importlib.util.spec_from_file_location("publish", ROOT / "docs" / "publish.py")
    publish = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(publish)
    for page in publish.PAGES:
        assert publish.filled(page.read_text(), publish.blocks()) == page.read_text(), (
            "python docs/publish.py"
        )
    measured = {
        one["target"] for one in publish.read_outcomes(publish.RESULTS, publish.TARGETS) if one["runs"]
    }
    assert measured >= {"T1", "T2", "T4", "T5", "T7", "T8", "T9"}
