"""Sweeps from Python: files, mappings, runs, and settings by short or full keys."""

import pytest
import yaml

import supsup
from tests.conftest import sweep_text


@pytest.fixture
def values(tmp_path):
    return yaml.safe_load(sweep_text(tmp_path / "runs"))


def test_a_file_and_its_values_are_the_same_sweep(values, sweep):
    assert supsup.load_sweep(sweep) == supsup.load_sweep(str(sweep)) == supsup.load_sweep(values)
    assert supsup.load_sweep(supsup.load_sweep(values)) == supsup.load_sweep(values)


def test_settings_by_short_and_full_keys(values):
    changed = supsup.load_sweep(values, num_tasks=3, at=[3], **{"training.optimizer.lr": 0.5})
    assert changed.benchmark.num_tasks == 3
    assert changed.evaluation.at == (3,)
    assert changed.training.optimizer.lr == 0.5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "x"}, r"kind: found keys benchmark.kind, network.kind.*write one in full"),
        ({"stepz": 3}, r"stepz: unknown key"),
        ({"num_tasks": 0}, r"benchmark.num_tasks: found 0"),
        ({"training.steps": "many"}, r"training.steps"),
        ({"data_dir": object()}, r"the sweep given"),
    ],
)
def test_a_wrong_setting_is_named(values, settings, words):
    with pytest.raises(supsup.InputError, match=words):
        supsup.load_sweep(values, **settings)
