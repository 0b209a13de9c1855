"""Suggested commands: what a shell reads is what was meant."""

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
