"""`ray up` and `ray submit` over a real sshd on a pretend machine's loopback."""

import re
import shutil
from pathlib import Path

import pytest

from orchestrator.cluster.submission import sweep_id
from orchestrator.config.load import load_sweep, read_sweep_file
from orchestrator.runs.run import locate_run
from tests.cluster.conftest import make_token
from tests.cluster.hosts import ROOT, VENV, Host, until
from tests.conftest import sweep_text

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]
SSHD = """\
ListenAddress 127.0.0.1
HostKey {home}/host_key
UsePAM no
PasswordAuthentication no
StrictModes no
PidFile none
"""


@pytest.fixture
def reached(hosts_or_skip, tmp_path):
    """Return a host that ssh reaches as root@127.0.0.1, at home in the host's own folder."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if sshd is None or shutil.which("rsync") is None:
        pytest.skip("needs openssh-server and rsync")
    host = Host("reached", tmp_path / "hosts")
    try:
        home = host.home
        users = re.sub(r"(?m)^(root:.*):[^:]*:([^:]*)$", rf"\1:{home}:\2", Path("/etc/passwd").read_text())
        (home / "passwd").write_text(users)
        host.must("mount", "--bind", home / "passwd", "/etc/passwd")  # inside the host only
        host.must("mkdir", "-p", "-m", "700", home / ".ssh", "/run/sshd")
        for key in (home / ".ssh" / "id_ed25519", home / "host_key"):
            host.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        shutil.copy(home / ".ssh" / "id_ed25519.pub", home / ".ssh" / "authorized_keys")
        for name in (".bashrc", ".bash_profile"):
            (home / name).write_text(f"export PATH={VENV}:$PATH RAY_USAGE_STATS_ENABLED=0\n")
        (home / "sshd_config").write_text(SSHD.format(home=home))
        make_token(host)
        server = host.start(sshd, "-D", "-f", home / "sshd_config")
        ask = ("ssh", "-o", "StrictHostKeyChecking=no", "root@127.0.0.1", "pwd")
        until(lambda: host.run(*ask).stdout.strip() == str(home), 20, "sshd")
        yield host
    finally:
        host.close()
    server.communicate()  # it went with its host


def cluster_file(tmp_path, host):
    """Fill in the template that the project ships, with the tiny sweep in it."""
    shipped = (ROOT / "sweeps" / "cluster" / "ssh.yaml").read_text()
    cluster = shipped[shipped.index("\ncluster_name") :]
    cluster = cluster.replace("head_ip: HEAD", "head_ip: 127.0.0.1").replace("USER", "root")
    sweep = sweep_text(tmp_path / "runs", executor="{kind: ray}")
    path = tmp_path / "ssh.yaml"
    path.write_text(
        "metadata:\n  sweep:\n" + "".join(f"    {line}\n" for line in sweep.splitlines()) + cluster
    )
    return path


def num_masks(path):
    return len(locate_run(load_sweep(path)).store.locate())


def test_over_ssh_the_sweep_in_the_file_named_runs_edited_or_not(reached, tmp_path):
    path, script = cluster_file(tmp_path, reached), ROOT / "sweeps" / "run.py"
    reached.must("ray", "up", "-y", path)
    done = reached.run("ray", "submit", path, script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained 4 tasks" in done.stdout
    path.write_text(path.read_text().replace("seed: 3", "seed: 4"))
    done = reached.run("ray", "submit", path, script, "benchmark.num_tasks=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (load_sweep(path).seed, num_masks(path)) == (4, 2)

    # Ray's own provider copies the script alone: the head has the first sweep, and has to be asked for it.
    text = re.sub(
        r"provider: .*", "provider: {type: local, head_ip: 127.0.0.1, worker_ips: []}", path.read_text()
    )
    text = re.sub(r"max_workers: .*\navailable_node_types:\n.*\nhead_node_type: .*\n", "", text)
    path.write_text(text)
    done = reached.run("ray", "submit", path, script)
    assert done.returncode == 1
    assert "no id says which sweep is wanted" in " ".join(done.stdout.split())
    done = reached.run("ray", "submit", path, script, sweep_id(read_sweep_file(path)))
    assert done.returncode == 1
    assert "the head has the sweep tiny-" in " ".join(done.stdout.split())
    assert num_masks(path) == 2
