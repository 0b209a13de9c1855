"""Suggested commands: what a shell reads is what was meant."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.commands import supsup_command

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", ["runs/a-0123", "/my runs/it's", "s3://bucket/runs/a-0123", "/$HOME/*;`b`"])
def test_a_shell_reads_the_words_that_were_given(path):
    words = ["supsup", "evaluate", path, "evaluation.at=[1, 2]"]
    assert shlex.split(supsup_command(*words[1:])) == words


def test_plain_words_stay_as_they_are():
    text = supsup_command("evaluate", Path("runs/a-0123"), "evaluation.inference.algorithm=exhaustive")
    assert text == "supsup evaluate runs/a-0123 evaluation.inference.algorithm=exhaustive"


def test_a_network_of_ones_own_is_allowed():
    sweep = ROOT / "sweeps" / "digits_10.yaml"
    assert supsup_command("verify", "x", config=load_sweep(sweep)) == "supsup verify x"
    own = load_sweep(
        sweep,
        [
            "network.kind=module",
            "network.import_path=a:b",
            "mask.rule=top_k",
            "mask.density=0.1",
        ],
    )
    assert supsup_command("verify", "x", config=own) == "supsup --allow-code verify x"


HELPS = {"Argument", "Option"}
WRITTEN = re.compile(r"(?:`|: )supsup (?:--allow-code )?[a-z]+")
ELSEWHERE = {
    "orchestrator/cli/shell_function.py": "is a shell script",
    "orchestrator/config/reference.py": "is a page of the docs",
}


FILES = sorted(
    path.relative_to(ROOT)
    for room in ("core", "storage", "orchestrator")
    for path in (ROOT / room).rglob("*.py")
)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_commands_in_messages_come_from_the_maker(path):
    """Written by hand, a command lacks the run folder, its quotes, or --allow-code."""
    if str(path) in ELSEWHERE:
        return
    tree = ast.parse((ROOT / path).read_text())
    fine = {id(part) for node in ast.walk(tree) if _is_help(node) for part in ast.walk(node)}
    texts = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in fine
    ]
    assert [text.value for text in texts if WRITTEN.search(text.value)] == []


def _is_help(node: ast.AST) -> bool:
    """Return whether a node is a docstring, or the help of a command or an option."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") in HELPS
