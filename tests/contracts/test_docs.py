"""What the documents say is so: links, commands, sweep files, folder names."""

import importlib.util
import itertools
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from core.errors import SupSupError
from orchestrator.cli.common import STOPPED
from orchestrator.cli.main import app
from orchestrator.config.load import load_sweep
from orchestrator.config.reference import reference
from orchestrator.reproduce.targets import load_targets
from orchestrator.runs.run import locate_run

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs/**", "storage", "perf/**", "sweeps/**", "changelog.d", ".github")
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(path for one in FOLDERS for path in ROOT.glob(f"{one}/*.md"))})
README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
WRITTEN = [path for path in DOCUMENTS if path.parent.name != "results"]  # by hand, about the code as it is


def commands(text: str) -> list[list[str]]:
    """Return the commands of bash blocks, each as words."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    whole = [block.replace("\\\n", " ") for block in blocks]
    lines = [shlex.split(line, comments=True) for block in whole for line in block.splitlines()]
    return [words for words in lines if words]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(document):
    for target, part in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", document.read_text()):
        path = document.parent / target if target else document
        assert path.exists(), target
        assert not part or part in anchors(path.read_text()), f"{target}#{part}"


def anchors(text: str) -> set[str]:
    """Return the names by which the headings of a page are linked."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_of_the_readme_exists_and_its_sweep_is_valid():
    known = set(typer.main.get_command(app).commands)
    inline = [shlex.split(text) for text in re.findall(r"`(supsup [^`]*)`", README)]
    ours = [words for words in commands(README) if words[0] == "supsup"] + inline
    assert len(ours) >= 8
    for words in ours:
        assert words[1] in known, words
        if words[1] in ("run", "plan", "submit"):
            settings = itertools.dropwhile(lambda word: "=" not in word, words[3:])
            load_sweep(ROOT / words[2], list(settings))


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", README):
        if target != "and":
            assert f"\n{target}:" in makefile, target


def test_the_list_of_sweeps_names_every_sweep():
    listed = (ROOT / "sweeps" / "README.md").read_text()
    rows = [row for row in listed.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
    assert named == {sweep.name for sweep in ROOT.glob("sweeps/*.yaml")}


def options(command) -> set[str]:
    """Return the long options of a command, the negative forms of flags left out."""
    return {word for one in command.params for word in one.opts if word.startswith("--")}


def test_the_list_of_commands_is_that_of_the_command_line():
    """Each row has the command's arguments in order, and all of its options."""
    whole = typer.main.get_command(app)
    rows = dict(re.findall(r"^\| `supsup (\w+)((?:[^`|]|\\\|)*)` \|", COMMANDS, re.MULTILINE))
    assert rows.keys() == whole.commands.keys()
    for name, command in whole.commands.items():
        words = rows[name].replace("\\|", "|")
        assert set(re.findall(r"--[\w-]+", words)) == options(command), name
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = [one.metavar for one in arguments]
        assert re.sub(r" \[--[^]]*\]| --[\w-]+ \S+", "", words).strip() == " ".join(usage), name
    assert set(re.findall(r"--[a-z][\w-]+", COMMANDS.split("Before the command:")[1])) == options(whole)


def test_help_shows_every_option_of_the_list():
    """The list is held against the classes above; here against what a person sees."""
    for name, words in re.findall(r"^\| `supsup (\w+)((?:[^`|]|\\\|)*)` \|", COMMANDS, re.MULTILINE):
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
        assert shown.exit_code == 0
        for option in re.findall(r"--[\w-]+", words):
            assert option in shown.output, f"{name} {option}"


def test_the_exit_codes_are_those_of_the_errors():
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", COMMANDS, re.MULTILINE)}
    errors = [SupSupError, *descendants(SupSupError)]
    assert codes == {0, STOPPED} | {error.exit_code for error in errors}


def descendants(error: type) -> list[type]:
    return [found for one in error.__subclasses__() for found in (one, *descendants(one))]


@pytest.mark.parametrize("sweep", ["digits_10", "permuted_10", "hopsupsup_split_mnist"])
def test_the_run_folder_in_the_documents_is_the_one_that_is_made(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = locate_run(load_sweep(ROOT / "sweeps" / f"{sweep}.yaml")).name
    text = "".join(path.read_text() for path in WRITTEN)
    assert set(re.findall(rf"\b({sweep}-[0-9a-f]{{8}})", text)) == {name}


def test_the_architecture_names_code_that_is_there():
    """Paths in backticks exist, and what is in the drawing of rooms."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:core|storage|orchestrator|tests|docs)/[\w/.]+)`", text))
    missing = {name for name in named if not (ROOT / name).exists() and "NAME" not in name}
    assert missing == set()
    drawing = re.findall(r"^(\w+)/|^  ([\w/. ]+?)  ", text.split("```")[1], re.MULTILINE)
    room = ""
    for top, names in drawing:
        room = top or room
        assert all((ROOT / room / name).exists() for name in names.split()), (room, names)


def test_the_architecture_names_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    for package in ("core", "storage", "orchestrator"):
        for init in (ROOT / package).glob("*/__init__.py"):
            assert re.search(rf"^  {init.parent.name}/ ", text, re.MULTILINE), init


def test_the_files_for_github_are_yaml_with_what_github_wants():
    read = {path.name: yaml.safe_load(path.read_text()) for path in ROOT.glob(".github/**/*.yml")}
    assert read.keys() == {"ci.yml", "bug.yml", "question.yml"}
    for form in ("bug.yml", "question.yml"):
        assert {"name", "description", "body"} <= read[form].keys()
    jobs = read["ci.yml"]["jobs"].values()
    steps = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert steps
    assert all(step.startswith(("make ", ".ci/")) for step in steps)
    makefile = (ROOT / "Makefile").read_text()
    for target in next(iter(jobs))["strategy"]["matrix"]["target"]:
        assert f"\n{target}:" in makefile
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert citation["version"] == pyproject["project"]["version"]


def test_the_files_that_dependencies_are_for_exist():
    text = (ROOT / "pyproject.toml").read_text()
    comments = re.findall(
        r'^  ".*?",\s+# (.*)$', text.split("dependencies = [")[1].split("\n]")[0], re.MULTILINE
    )
    paths = {
        path
        for words in comments
        for path in re.findall(r"\b(?:core|storage|orchestrator)(?:/[\w.]+)*", words)
    }
    ignores = re.findall(r'^"((?:core|orchestrator)/[\w/.]+)', text, re.MULTILINE)
    assert len(paths) > 15
    for path in [*paths, *ignores]:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=lambda p: p.stem)
def test_commands_in_the_documents_exist_and_their_sweeps_are_valid(page):
    known = set(typer.main.get_command(app).commands)
    for words in commands(page.read_text()):
        ours = [w for w in words if not w.startswith("--allow-code")]
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
        one["target"] for one in publish.read_results(publish.RESULTS, load_targets([])) if one["runs"]
    }
    assert measured >= {"T1", "T2", "T4", "T5", "T7", "T8", "T9"}
