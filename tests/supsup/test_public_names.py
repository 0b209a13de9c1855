"""The names of ``import supsup``: few, frozen, and nothing heavy until one is used."""

import subprocess
import sys

import pytest

import supsup
from tests.contracts.test_public_names import HEAVY, names_for_type_checkers

NAMES = [
    "AccuracyMatrix",
    "Answer",
    "Classification",
    "Comparison",
    "InputError",
    "Problem",
    "Run",
    "SupSupError",
    "SweepConfig",
    "TrainedMasks",
    "compare",
    "fill_bank",
    "load_sweep",
    "make_problem",
    "one_shot",
    "open",
    "read_images",
    "run",
    "search",
    "task_images",
    "train_masks",
]


def test_the_names_change_only_on_purpose():
    assert supsup.__all__ == NAMES == sorted(names_for_type_checkers("supsup")) == dir(supsup)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_used_and_says_what_it_is(name):
    assert getattr(supsup, name).__doc__


def test_importing_it_loads_nothing_heavy():
    code = "import sys, supsup; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
