"""Every door to a running cluster with its token on: the real `supsup`, the real `ray`."""

import json
import shlex

import pytest

from core.errors import plural
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from tests.cluster.hosts import ROOT, until
from tests.conftest import sweep_text
from tests.integration.test_networks import OWN, SMALL
from tests.orchestrator.fakes import Recorder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]


def write(folder, name, **lines):
    path = folder / f"{name}.yaml"
    path.write_text(sweep_text(folder / "runs", executor="{kind: ray}", **{"name": name} | lines))
    return path


def as_cluster_file(path):
    """Put a plain sweep under the cluster configuration that the project ships."""
    shipped = (ROOT / "sweeps" / "cluster" / "digits_10.yaml").read_text()
    sweep = "".join(f"    {line}\n" for line in path.read_text().splitlines())
    target = path.with_stem(f"{path.stem}-cluster")
    target.write_text("metadata:\n  sweep:\n" + sweep + shipped[shipped.index("\n# The rest makes") :])
    return target


def digests(config):
    return locate_run(config).store.info_table()["digest"].to_pylist()


def inline_digests(path, folder, *settings):
    changed = ["executor.kind=inline", f"storage.uri={folder}/inline", *settings]
    config = load_sweep(path, changed)
    run_sweep(config, None, Recorder())
    return digests(config)


@pytest.mark.long
def test_a_job_is_followed_stopped_and_resumed(head, tmp_path):
    training = "{steps: 12000, batch_size: 64, optimizer: {kind: rmsprop, lr: 1.0e-3}, cohort_size: 1}"
    benchmark = "{kind: permuted, dataset: synthetic, num_tasks: 14}"
    path = write(tmp_path, "long", training=training, benchmark=benchmark, evaluation="{at: [14]}")
    store = locate_run(load_sweep(path)).store
    shown = head.must("supsup", "submit", path)
    job = shown.split()[1]
    assert job.startswith(locate_run(load_sweep(path)).name)
    until(lambda: len(store.files()) >= 3, 240, "masks")

    second = head.run("supsup", "submit", path)
    assert second.returncode == 3
    assert f"is job {job}" in second.stderr
    assert job in head.must("supsup", "status", "--address", "http://127.0.0.1:8265")
    assert f"stopping {job}" in head.must("supsup", "stop", job)
    until(
        lambda: "stopped" in head.must("supsup", "status", job, "--address", "127.0.0.1:8265"), 20, "the stop"
    )
    log = head.must("supsup", "logs", job)
    assert "run it again to resume" in log  # it ended by itself, within Ray's three seconds
    num_done = len(store.files())
    assert 3 <= num_done < 14

    again = head.run("supsup", "submit", path, "--follow")
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"trained {plural(14 - num_done, 'task')}" in again.stdout
    expected = inline_digests(path, tmp_path, "benchmark.num_tasks=6", "evaluation.at=[6]")
    assert digests(load_sweep(path))[:6] == expected


def test_without_the_token_there_is_one_plain_line(head, tmp_path):
    path = write(tmp_path, "tiny")
    for words in (["submit", path], ["run", path, "executor.address=127.0.0.1:6379"], ["logs", "some-job"]):
        done = head.run("supsup", *words, HOME=str(tmp_path))
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert "requires its token" in done.stderr
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("f" * 64)
    done = head.run("supsup", "submit", path, HOME=str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is not that cluster's" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_wrong_address_or_job_is_one_plain_line(head, tmp_path):
    path = write(tmp_path, "tiny")
    for words, word in (
        (["submit", path, "--address", "http://127.0.0.1:9"], "no Ray cluster answers"),
        (["logs", "nothing"], "no job 'nothing'"),
        (["submit", path, "--include", tmp_path / "none"], "--include"),
        (["submit", path, "training.stepps=3"], "did you mean 'steps'"),
    ):
        done = head.run("supsup", *words)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr
        assert word in done.stderr


def test_ray_submit_runs_the_sweep_in_the_file_named(head, tmp_path):
    plain = write(tmp_path, "named")
    path = as_cluster_file(plain)
    done = head.run("ray", "submit", path, ROOT / "sweeps" / "run.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained 4 tasks" in done.stdout
    assert digests(load_sweep(path)) == inline_digests(plain, tmp_path)


@pytest.mark.long
def test_ray_submit_takes_the_file_as_it_is_now_and_refuses_a_wrong_one(head, tmp_path):
    """Without the script and with settings; Ray keeps the files of the submission before."""
    path = as_cluster_file(write(tmp_path, "named"))
    assert head.run("ray", "submit", path, ROOT / "sweeps" / "run.py").returncode == 0
    path.write_text(path.read_text().replace("seed: 3", "seed: 4"))
    submit = (
        f"ray submit {shlex.quote(str(path))} --log-style record benchmark.num_tasks=3 'evaluation.at=[1, 3]'"
    )
    words = f'eval "$(supsup shellenv)"; {submit}; echo "code $?"; ray --version'
    done = head.run("bash", "-c", words)
    assert "code 0" in done.stdout, done.stdout + done.stderr
    assert "ray, version" in done.stdout
    assert load_sweep(path).seed == 4
    assert len(digests(load_sweep(path))) == 3
    tables = locate_run(load_sweep(path)).layout.evaluations
    assert {table.name for table in tables.iterdir()} == {"GG-1.parquet", "GG-3.parquet"}

    path.write_text(path.read_text().replace("seed: 4", "seed: four"))
    done = head.run("ray", "submit", path, ROOT / "sweeps" / "run.py")
    assert done.returncode == 2
    assert "seed: found 'four', expected a whole number" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_network_of_ones_own_travels_and_is_allowed_where_it_was_allowed(head, tmp_path):
    (tmp_path / "own_nets.py").write_text(OWN)
    path = write(tmp_path, "own", **SMALL)
    submit = f"cd {shlex.quote(str(tmp_path))} && supsup submit {path.name} --follow --include own_nets.py"
    done = head.run("bash", "-c", submit)
    assert (done.returncode, "--allow-code" in done.stderr) == (2, True)
    done = head.run("bash", "-c", f"{submit} --allow-code")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained 4 tasks" in done.stdout


def test_what_travels_is_code_sweep_and_versions(tmp_path):
    from orchestrator.cluster.submission import stage

    folder = tmp_path / "staged"
    folder.mkdir()
    space = ["search.space.training.steps=[2,1]", "search.space.seed=[1]"]
    stage(folder, load_sweep(write(tmp_path, "tiny"), space), [ROOT / "README.md"])
    sent = json.loads((folder / "sweep.json").read_text())
    assert list(sent["search"]["space"]) == ["training.steps", "seed"]  # points in the order of the file
    assert sent["storage"]["uri"] == str(tmp_path / "runs")
    names = {path.name for path in folder.iterdir()}
    assert names == {"core", "storage", "orchestrator", "sweep.json", "lock.json", "README.md"}
    assert json.loads((folder / "lock.json").read_text())["numpy"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 2**21
