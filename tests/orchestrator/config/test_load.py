"""The sweep file: what is right is read, what is wrong is refused by name."""

import contextlib
import re
from pathlib import Path

import pytest
import yaml

from core.errors import ConfigError
from orchestrator.config.load import load_sweep
from orchestrator.config.sweep import RECIPES, fingerprint
from orchestrator.config.yaml_text import surprising_number
from orchestrator.runs.run import locate_run
from tests.conftest import sweep_text
from tests.orchestrator.wrong_inputs import WRONG_FILES, WRONG_SETTINGS

SWEEPS = sorted((Path(__file__).parents[3] / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_file_of_ours_is_valid_and_named_after_its_file(path):
    config = load_sweep(path)
    assert config.name == path.stem
    assert path.read_text().startswith("#")


def test_the_six_sweeps_are_there():
    names = {path.stem for path in SWEEPS}
    assert names >= {
        "digits_10",
        "permuted_10",
        "permuted_250_fc",
        "permuted_2500",
        "rotated_36",
        "split_mnist",
    }


def test_settings_win_over_the_file(sweep):
    config = load_sweep(sweep, ["benchmark.num_tasks=7", "training.optimizer.lr=1e-3", "evaluation.at=[1,7]"])
    assert (config.benchmark.num_tasks, config.training.optimizer.lr) == (7, 1e-3)
    assert config.evaluation.at == (1, 7)


def test_a_ray_cluster_file_may_carry_the_sweep(sweep, tmp_path):
    indented = "".join(f"    {line}\n" for line in sweep.read_text().splitlines())
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(f"cluster_name: c\nprovider: {{type: local}}\nmetadata:\n  sweep:\n{indented}")
    assert load_sweep(cluster) == load_sweep(sweep)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_a_file_with_a_mark_is_read_in_its_encoding(sweep, tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    other = tmp_path / "other.yaml"
    other.write_text(mark + sweep.read_text(), encoding=encoding)
    assert load_sweep(other) == load_sweep(sweep)


@pytest.mark.parametrize("seed", ["010", "1:30", "+017", "1:30.5", "0_7"])
def test_numbers_that_yaml_reads_otherwise_than_people_are_refused(sweep, tmp_path, seed):
    text = sweep.read_text().replace("seed: 3", f"seed: {seed}")
    for content in (text, f"cluster_name: c\nmetadata:\n  sweep: {{{', '.join(text.splitlines())}}}\n"):
        other = tmp_path / "other.yaml"
        other.write_text(content)
        with pytest.raises(ConfigError, match=rf"found {re.escape(seed)}, which YAML reads as"):
            load_sweep(other)


@pytest.mark.parametrize("value", ["0", "00", "8080", "0.5", "1.0e-3", "'010'", "0x10", "1_000"])
def test_other_numbers_pass(sweep, value):
    with contextlib.suppress(ConfigError):
        load_sweep(sweep, [f"seed={value}"])
    assert surprising_number(yaml.compose(value, Loader=yaml.SafeLoader)) is None


def test_ports_around_the_sweep_of_a_cluster_file_are_its_own_affair(sweep, tmp_path):
    indented = "".join(f"    {line}\n" for line in sweep.read_text().splitlines())
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(f"cluster_name: c\nports: 22:22\nmetadata:\n  sweep:\n{indented}")
    assert load_sweep(cluster) == load_sweep(sweep)


@pytest.mark.parametrize("key", ["storage.uri", "tracking.uri", "data_dir", "network.import_path"])
def test_control_characters_are_refused_by_key(sweep, key):
    with pytest.raises(ConfigError, match=rf'{key}: found "a\\u0000b", expected no control characters'):
        load_sweep(sweep, [f'{key}="a\\0b"'])


@pytest.mark.parametrize(
    "uri", ["http://u:SECRETPW@127.0.0.1:1", "postgresql://u:SECRETPW@h/db", "mysql://h/d?password=SECRETPW"]
)
def test_a_password_in_a_uri_is_refused_and_not_shown(sweep, uri):
    with pytest.raises(ConfigError, match=r"tracking\.uri.*the environment holds it") as raised:
        load_sweep(sweep, [f"tracking.uri={uri}"])
    assert "SECRETPW" not in str(raised.value)


MEANING = [
    "seed=4",
    "benchmark.permutation=original",
    "network.outputs=9",
    "network.hidden=[17]",
    "training.steps=61",
    "training.batch_size=17",
    "training.optimizer.lr=0.02",
    "training.optimizer.smoothing=0.9",
]
NO_MEANING = [
    "benchmark.num_tasks=5",
    "training.cohort_size=1",
    "executor.kind=ray",
    "executor.workers=1",
    "executor.engine=compiled",
    "storage.uri=elsewhere",
    "tracking.uri=null",
    "evaluation.at=[1]",
    "name=other",
    "data_dir=here",
]


def test_fingerprint_changes_with_what_the_masks_mean_and_with_nothing_else(sweep):
    own = fingerprint(load_sweep(sweep).run_spec())
    for setting in MEANING:
        assert fingerprint(load_sweep(sweep, [setting]).run_spec()) != own, setting
    for setting in NO_MEANING:
        assert fingerprint(load_sweep(sweep, [setting]).run_spec()) == own, setting


def test_fingerprint_is_frozen(sweep):
    """A change here orphans every run folder: raise RECIPE only when masks really change."""
    spec = load_sweep(sweep).run_spec()
    assert {recipe: fingerprint(spec, recipe)[:16] for recipe in RECIPES} == FROZEN


def test_spelled_out_defaults_are_the_same_run(sweep):
    spelled = ["training.optimizer.smoothing=0.99", "training.optimizer.eps=1e-8", "mask.rule=threshold"]
    spelled += ["training.matmul=float32", "training.optimizer.state=float32"]
    assert load_sweep(sweep, spelled).run_spec() == load_sweep(sweep).run_spec()


def test_a_key_that_changes_bits_changes_the_run(sweep):
    changed = ["training.matmul=tf32", "training.matmul=bfloat16", "training.optimizer.state=bfloat16"]
    found = {
        fingerprint(load_sweep(sweep, settings).run_spec()) for settings in ([], *([s] for s in changed))
    }
    assert len(found) == 4


@pytest.mark.parametrize(("setting", "words"), WRONG_SETTINGS)
def test_a_wrong_setting_is_named(sweep, setting, words):
    with pytest.raises(ConfigError) as caught:
        load_sweep(sweep, setting.split(" "))
    for word in words:
        assert word in str(caught.value)


def test_a_network_that_this_machine_cannot_hold_is_refused_before_it_is_drawn(sweep):
    widths = ",".join(["65536"] * 900)
    with pytest.raises(
        ConfigError, match=r"network: found 3,8\S+ weights, which take .* GB while they are drawn"
    ):
        locate_run(load_sweep(sweep, [f"network.hidden=[{widths}]"]))


@pytest.mark.parametrize(("content", "words"), WRONG_FILES)
def test_a_wrong_file_is_named(tmp_path, content, words):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    for word in ["bad.yaml", *words]:
        assert word in str(caught.value)


def test_all_wrong_keys_are_told_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(sweep_text(tmp_path, seed="x", network="{kind: lenet, outputs: many}"))
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    for key in ("seed", "network.kind", "network.outputs"):
        assert key in str(caught.value)


FROZEN = {1: "b2c622f1d6ecd63d", 2: "7b65d4638d6bb4a3"}
