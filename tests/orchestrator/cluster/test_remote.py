"""What `supsup submit` prints: the run folder, the dashboard, and commands that work as printed."""

import shlex
import sys
from types import SimpleNamespace

import pytest

from core.own_code.permission import ALLOW_CODE
from orchestrator.cluster.address import ADDRESS, DEFAULT_ADDRESS, job_command
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from tests.conftest import supsup, sweep_text

JOB = "tiny-01234567-abcdef"


@pytest.fixture
def cluster(monkeypatch):
    """Stand in for Ray's Jobs API: what was asked of it, by name."""
    asked = {}
    monkeypatch.delenv(ADDRESS, raising=False)
    jobs = SimpleNamespace(
        submit=lambda config, address, inputs: asked.update(submit=address) or JOB,
        follow=lambda job, address, write: asked.update(follow=(job, address)) or 0,
        stop=lambda job, address: asked.update(stop=(job, address)) or True,
    )
    monkeypatch.setitem(sys.modules, "orchestrator.cluster.jobs", jobs)
    return asked


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Write a sweep whose runs go to a folder with a space in its path, relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text("my runs", executor="{kind: ray}"))
    return path


def rows(shown):
    """Return the value of each line after the first, by name."""
    lines = shown.splitlines()[1:]
    return {line[:13].strip(): line[13:].strip() for line in lines}


@pytest.mark.parametrize("address", [None, "http://head:8265", "head:8265", "http://head/a?b=1&c=*"])
def test_submit_prints_commands_that_reach_the_job(cluster, sweep, tmp_path, capsys, address):
    chosen = [] if address is None else ["--address", address]
    assert supsup("submit", sweep, *chosen) == 0
    url = DEFAULT_ADDRESS if address is None else address if "://" in address else f"http://{address}"
    assert cluster == {"submit": url}
    shown = rows(capsys.readouterr().out)
    name = locate_run(load_sweep(sweep)).name
    assert shown["run folder"] == str(tmp_path / "my runs" / name)
    assert shown["dashboard"] == url
    for key in ("follow", "stop"):
        ours, *words = shlex.split(shown[key])
        assert ours == "supsup"
        assert supsup(*words) == 0
        assert cluster[key] == (JOB, url)


def test_submit_of_a_search_prints_its_folder(cluster, sweep, tmp_path, capsys):
    assert supsup("submit", sweep, "search.space.seed=[1,2]") == 0
    assert rows(capsys.readouterr().out)["run folder"] == str(tmp_path / "my runs" / "tiny-search")


def test_the_default_address_is_left_out_and_any_other_is_there(monkeypatch):
    monkeypatch.delenv(ADDRESS, raising=False)
    assert job_command("stop", JOB, DEFAULT_ADDRESS) == f"supsup stop {JOB}"
    assert job_command("stop", JOB, "h:1") == f"supsup stop {JOB} --address h:1"
    monkeypatch.setenv(ADDRESS, "http://h:1")
    assert job_command("stop", JOB, "h:1") == f"supsup stop {JOB}"
    assert job_command("stop", JOB, DEFAULT_ADDRESS) == f"supsup stop {JOB} --address {DEFAULT_ADDRESS}"


def test_ctrl_c_while_following_prints_commands_that_reach_the_job(cluster, sweep, monkeypatch, capsys):
    def interrupted(job, address, write):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["orchestrator.cluster.jobs"], "follow", interrupted)
    assert supsup("submit", sweep, "--follow", "--address", "h:1") == 0
    shown = capsys.readouterr().err
    assert f"`supsup logs {JOB} --follow --address http://h:1`" in shown
    assert f"`supsup stop {JOB} --address http://h:1`" in shown


@pytest.mark.parametrize("settings", [[], ["search.space.seed=[1,2]"]])
def test_a_network_of_ones_own_is_not_submitted_unless_it_is_allowed(
    cluster, sweep, monkeypatch, capsys, settings
):
    monkeypatch.delenv(ALLOW_CODE, raising=False)
    own = '{kind: module, import_path: "a:b", outputs: 8}'
    sweep.write_text(
        sweep_text("runs", executor="{kind: ray}", network=own, mask="{rule: top_k, density: 0.1}")
    )
    assert supsup("submit", sweep, *settings) == 2
    assert "--allow-code" in capsys.readouterr().err
    assert cluster == {}
