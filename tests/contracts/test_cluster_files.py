"""Every cluster file that the project ships: valid for Ray, safe, and a sweep besides."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from core.errors import ConfigError
from orchestrator.cli.main import app, call
from orchestrator.cluster.submission import check_cluster_file, sweep_id
from orchestrator.config.load import load_sweep, read_cluster_file, read_sweep_file

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "sweeps" / "cluster"
FILES = [ROOT / "sweeps" / "permuted_2500.yaml", *sorted(FOLDER.glob("*.yaml"))]
CLUSTERS = [path for path in FILES if "cluster_name" in yaml.safe_load(path.read_text())]


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_ray_takes_the_file_and_so_does_supsup(path):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load(path.read_text())))
    cluster = read_cluster_file(path)
    assert cluster is not None
    check_cluster_file(cluster, path.name)
    config = load_sweep(path)
    assert sweep_id(read_sweep_file(path)).startswith(f"{config.name}-")
    if cluster["provider"]["type"] in ("aws", "gcp"):
        assert "NOT RUN" in path.read_text()


def test_the_shipped_ones_are_all_there():
    assert {path.stem for path in CLUSTERS} == {"permuted_2500", "digits_10", "ssh", "aws", "gcp"}


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_providers_of_ours_exist(path):
    from ray.autoscaler._private.providers import _get_node_provider_cls

    provider = yaml.safe_load(path.read_text())["provider"]
    if provider["type"] == "external":
        filled = _get_node_provider_cls(provider).bootstrap_config(yaml.safe_load(path.read_text()))
        assert filled["provider"]["sweep"]["name"] in ("permuted_2500", "digits_10")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("ray start --head --disable-usage-stats", "without a token"),
        ("ray start --head --dashboard-host 0.0.0.0 --disable-usage-stats", "opens the dashboard"),
        ("RAY_AUTH_MODE=token ray start --head", "usage statistics"),
    ],
)
def test_a_cluster_that_anyone_may_use_is_refused(command, word):
    with pytest.raises(ConfigError, match=word):
        check_cluster_file({"head_start_ray_commands": [command]}, "x.yaml")


def test_a_cluster_file_without_a_sweep_is_named(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("cluster_name: x\n")
    with pytest.raises(ConfigError, match=r"without a sweep under metadata\.sweep"):
        load_sweep(path)


def test_the_rayjob_has_the_form_that_kuberay_wants():
    job = yaml.safe_load((FOLDER / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    import ray

    assert cluster["rayVersion"] == ray.__version__
    words = job["spec"]["entrypoint"].split()
    assert words[:2] == ["supsup", "run"]
    load_sweep(ROOT / words[2], words[3:])
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert group["rayStartParams"] == {"disable-usage-stats": "true"}
        spec = group["template"]["spec"]
        volumes = {volume["name"]: volume["secret"] for volume in spec["volumes"]}
        (container,) = spec["containers"]
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        assert variables["RAY_AUTH_MODE"] == "token"
        (mount,) = container["volumeMounts"]
        assert variables["RAY_AUTH_TOKEN_PATH"].startswith(mount["mountPath"])
        assert volumes[mount["name"]]["defaultMode"] == 0o400


def test_the_slurm_script_has_the_form_that_bash_and_ray_want():
    path = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text()
    assert "RAY_AUTH_MODE=token" in text
    from ray.scripts.symmetric_run import symmetric_run

    options = {name for option in symmetric_run.params for name in option.opts}
    used = re.search(r"ray symmetric-run (.*?) -- ", text.replace("\\\n", " "))
    assert used is not None
    assert set(re.findall(r"--[a-z-]+", used[1])) <= options
    assert "--address" in used[1]
    assert "executor.address=auto" in text.split("--")[-1]


def test_the_script_alone_on_a_head_wants_to_be_told_which_sweep(tmp_path, monkeypatch, capsys):
    """As `ray submit` with a stock provider leaves it: the head has the sweep of the last `ray up`."""
    from orchestrator.cli import job
    from tests.conftest import sweep_text

    sweep = yaml.safe_load(sweep_text(tmp_path / "runs"))
    bootstrap = tmp_path / "ray_bootstrap_config.yaml"
    bootstrap.write_text(json.dumps({"cluster_name": "x", "metadata": {"sweep": sweep}}))
    monkeypatch.setattr(job, "BOOTSTRAP", bootstrap)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert job.main([]) == 2
    assert "no id says which sweep is wanted" in capsys.readouterr().err
    assert job.main([sweep_id({**sweep, "seed": 9})]) == 2
    shown = capsys.readouterr().err
    assert f"the head has the sweep {sweep_id(sweep)}" in shown
    assert not (tmp_path / "runs").exists()
    assert job.main(["benchmark.num_tasks=2", "--quiet"]) == 2
    assert "no id says which sweep is wanted" in capsys.readouterr().err
    assert job.main(["--quiet", "benchmark.num_tasks=2", sweep_id(sweep)]) == 0
    assert len(list((tmp_path / "runs").glob("*/masks/*"))) == 1
    monkeypatch.setenv("SUPSUP_SWEEP", str(tmp_path / "named.yaml"))
    (tmp_path / "named.yaml").write_text(sweep_text(tmp_path / "named"))
    assert job.main(["seed=4", "evaluation.at=[2, 4]"]) == 0
    assert len(list((tmp_path / "named").glob("*/masks/*"))) == 2


def test_the_script_beside_a_sweep_takes_settings(tmp_path, monkeypatch):
    from orchestrator.cli import job
    from orchestrator.cluster.submission import LOCK_FILE, SWEEP_FILE
    from tests.conftest import sweep_text

    monkeypatch.chdir(tmp_path)
    (tmp_path / SWEEP_FILE).write_text(json.dumps(yaml.safe_load(sweep_text(tmp_path / "runs"))))
    (tmp_path / LOCK_FILE).write_text("{}")
    assert job.main(["benchmark.num_tasks=2", "evaluation.at=[1, 2]", "--quiet"]) == 0
    tables = {path.name for path in (tmp_path / "runs").glob("*/evaluations/*")}
    assert tables == {"GG-1.parquet", "GG-2.parquet"}


def test_a_job_gets_the_words_after_the_script_as_they_are(monkeypatch):
    from orchestrator.cli.ray_provider import Jobs

    seen = []
    monkeypatch.setattr("orchestrator.cluster.jobs.submit", lambda *given: seen.append(given[-1]) or "job-1")
    monkeypatch.setattr("orchestrator.cluster.remote.follow_job", lambda job, address: 0)
    sweep = yaml.safe_load((ROOT / "sweeps" / "digits_10.yaml").read_text())
    provider = {"address": "http://h:8265", "sweep": sweep}
    Jobs(provider, "x").get_command_runner().run("python ~/job.py data_dir=~/data")
    assert seen == ["python ./job.py data_dir=~/data"]


SHELLS = [pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name}"))
          for name in ("bash", "dash", "zsh")]  # fmt: skip
SCRIPT = ROOT / "orchestrator" / "cli" / "job.py"
SHIPPED, PLAIN = ROOT / "sweeps" / "permuted_2500.yaml", ROOT / "sweeps" / "permuted_10.yaml"


@pytest.fixture
def submitted(tmp_path, capsys):
    """Return a function of a shell and a line for it: the words of the command that comes of the line."""
    assert call(app, ["shellenv"]) == 0
    function = capsys.readouterr().out
    fake = tmp_path / "bin"
    fake.mkdir()
    for name in ("ray", "supsup"):
        (fake / name).write_text(f"#!/bin/sh\nprintf '%s\\n' {name} \"$@\"\nexit 7\n")
        (fake / name).chmod(0o755)

    def words(shell, line):
        script = f"PATH={fake}:$PATH\n{function}\n{line}"
        done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (7, "")
        return done.stdout.splitlines()

    return words


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", "benchmark.num_tasks=20"),
        ("", "benchmark.num_tasks=20 seed=4 training.optimizer.lr=1.0e-3"),
        ("", "--no-config-cache seed=4 --only-failed"),
        ("--no-config-cache -n other", "seed=4 --log-style record -v seed=5 -p 8265"),
        ("--cluster-name=other", "-- seed=4 --only-failed"),
        ("", "--args a=b"),
        ("--", "seed=4"),
    ],
)
def test_ray_submit_of_a_sweep_gets_the_script_after_the_file(submitted, shell, before, after):
    found = submitted(shell, f"ray submit {before} {SHIPPED} {after}")
    assert found == ["ray", "submit", *before.split(), str(SHIPPED), str(SCRIPT), *after.split()]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "words",
    ["", "--version", "up x.yaml", "submit", "submit {other}", "submit {shipped} x.py", "submit {shipped} x.py a=b",
     "submit {shipped} seed=4 x.py", "submit {shipped} ./a=b.py", "submit {shipped} folder/a=b.py",
     "submit {shipped} ID a=b", "submit --no-config-cache {plain}", "submit {plain} x.py", "submit --help",
     "submit nowhere.yaml seed=4"],
)  # fmt: skip
def test_the_shell_function_leaves_everything_else_to_ray(submitted, tmp_path, shell, words):
    other = tmp_path / "other.yaml"
    other.write_text("cluster_name: x\nprovider: {}\n")
    line = words.format(other=other, shipped=SHIPPED, plain=PLAIN)
    assert submitted(shell, f"ray {line}") == ["ray", *line.split()]


@pytest.mark.parametrize("shell", SHELLS)
def test_ray_submit_of_a_plain_sweep_is_supsup_submit(submitted, shell):
    found = submitted(shell, f"ray submit {PLAIN} seed=4 'evaluation.at=[1, 10]'")
    assert found == ["supsup", "submit", str(PLAIN), "seed=4", "evaluation.at=[1, 10]", "--follow"]


@pytest.mark.parametrize("shell", SHELLS)
def test_settings_and_paths_survive_two_shells(submitted, tmp_path, monkeypatch, shell):
    """Ray joins the words after the script by spaces, and a shell on the cluster reads them."""
    sweep = tmp_path / "my sweeps" / "it's.yaml"
    sweep.parent.mkdir()
    sweep.write_text(SHIPPED.read_text())
    monkeypatch.chdir(sweep.parent)
    settings = [
        "evaluation.at=[1, 10]",
        "name=it's",
        "data_dir=~/x",
        "storage.uri=/a $HOME/*;`b`",
        "a={b: c}",
    ]
    found = submitted(shell, shlex.join(["ray", "submit", str(sweep), *settings]))
    assert found[:4] == ["ray", "submit", str(sweep), str(SCRIPT)]
    read = subprocess.run(
        ["sh", "-c", "printf '%s\\n' " + " ".join(found[4:])], capture_output=True, text=True, check=True
    )
    assert read.stdout.splitlines() == settings
    assert submitted(shell, 'ray submit "it\'s.yaml" seed=4')[2:] == ["it's.yaml", str(SCRIPT), "seed=4"]
