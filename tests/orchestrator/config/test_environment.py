"""A sweep reads only the environment variables that the user allows."""

import pytest
from omegaconf import OmegaConf

from core.errors import ConfigError
from orchestrator.config.environment import ALLOW_ENV, allow_env
from orchestrator.config.load import change_settings, load_sweep, read_sweep_file
from tests.conftest import supsup, sweep_text

NAME = "SUPSUP_TEST_SECRET"


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(NAME, "/hidden")
    monkeypatch.delenv(ALLOW_ENV, raising=False)


@pytest.fixture
def sweep(tmp_path):
    path = tmp_path / "foreign.yaml"
    path.write_text(sweep_text(tmp_path / "runs", data_dir=f"'${{oc.env:{NAME}}}'"))
    return path


WORDS = [f"${{oc.env:{NAME}}}", f"${{oc.env:{NAME},/tmp}}", f"a/${{oc.env:{NAME}}}", "${oc.${name}:HOME}"]


@pytest.mark.parametrize("value", WORDS)
def test_a_name_that_is_not_allowed_is_refused_by_file_key_and_name(tmp_path, value):
    path = tmp_path / "foreign.yaml"
    path.write_text(sweep_text(tmp_path / "runs", data_dir=f"'{value}'", name="env"))
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    assert f"{path}: data_dir: reads the environment variable" in str(caught.value)
    assert "/hidden" not in str(caught.value)


def test_every_way_to_read_a_sweep_refuses_it(sweep, tmp_path):
    cluster, plain = tmp_path / "cluster.yaml", tmp_path / "plain.yaml"
    cluster.write_text(f"cluster_name: c\nmetadata: {{sweep: '${{oc.create:${{oc.env:{NAME}}}}}'}}\n")
    plain.write_text(sweep_text(tmp_path / "runs"))
    for read in (
        lambda: read_sweep_file(sweep),
        lambda: load_sweep(cluster),
        lambda: load_sweep(plain, [f"data_dir=${{oc.env:{NAME}}}"]),
        lambda: change_settings(load_sweep(plain), [f"data_dir=${{oc.env:{NAME}}}"], ["data_dir"]),
    ):
        with pytest.raises(ConfigError, match=f"reads the environment variable {NAME}"):
            read()


def test_a_name_that_is_allowed_is_read(sweep, monkeypatch):
    allow_env(f"{NAME},OTHER")
    assert load_sweep(sweep).data_dir == "/hidden"
    allow_env("MORE")
    assert load_sweep(sweep).data_dir == "/hidden"
    monkeypatch.setenv(ALLOW_ENV, f"OTHER, {NAME}")
    assert load_sweep(sweep).data_dir == "/hidden"


def test_the_resolver_of_other_code_in_the_process_is_restored(sweep):
    with pytest.raises(ConfigError):
        load_sweep(sweep)
    assert OmegaConf.to_container(OmegaConf.create({"a": f"${{oc.env:{NAME}}}"}), resolve=True) == {
        "a": "/hidden"
    }


def test_the_command_refuses_it_before_anything_is_written(sweep, capsys):
    assert supsup("run", sweep) == 2
    shown = capsys.readouterr().err
    assert f"--allow-env={NAME}" in shown
    assert "/hidden" not in shown
    assert not (sweep.parent / "runs").exists()


@pytest.mark.parametrize("words", [["--allow-env", NAME], [f"--allow-env={NAME}"]])
@pytest.mark.parametrize("first", [True, False])
def test_the_option_works_before_and_after_the_command(sweep, capsys, monkeypatch, words, first):
    monkeypatch.setenv(ALLOW_ENV, "")  # restored afterwards
    command = ["plan", sweep]
    assert supsup(*([*words, *command] if first else [*command, *words])) == 0
    assert "not allow" not in capsys.readouterr().err


@pytest.mark.parametrize("names", ["A=B", "", "A,*", "a b"])
def test_names_are_checked(names):
    with pytest.raises(ConfigError, match="names of environment variables"):
        allow_env(names)
