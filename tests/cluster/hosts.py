"""Pretend machines for Ray: Linux namespaces with their own network, processes, name and home.

They share the file system, as nodes with a network file system do. Needs root and `unshare`.
Ending a host ends every process in it, and nothing else.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

VENV = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
INIT = """
import os, signal, socket, sys
name, ray_folder = sys.argv[1:]
socket.sethostname(name)
for command in (["ip", "link", "set", "lo", "up"],
                ["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"],
                ["mount", "--bind", ray_folder, "/tmp/ray"]):
    if os.system(" ".join(command)):
        sys.exit(1)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reap: a zombie raylet looks alive
print("ready", flush=True)
sys.stdin.read()
"""


def can_make_hosts() -> str | None:
    """Return why hosts cannot be made here, None if they can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    for tool in ("unshare", "nsenter", "ip", "mount"):
        if shutil.which(tool) is None:
            return f"needs the command {tool}"
    probe = subprocess.run(
        ["unshare", "-n", "-p", "-m", "-u", "-f", "true"], capture_output=True, check=False
    )
    return None if probe.returncode == 0 else "unshare is not allowed here"


class Host:
    """One pretend machine."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.home = name, folder / name
        (self.home / "ray").mkdir(parents=True)
        Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108  # what is mounted over, inside the host only
        command = ["unshare", "-n", "-p", "-m", "-u", "-f", "--kill-child", "--mount-proc"]
        command += [sys.executable, "-c", INIT, name, str(self.home / "ray")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", f"{name} did not start"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.pid = int(children[0])

    def command(self, *words: object, **variables: str) -> list[str]:
        """Return the command line that runs ``words`` in the host, with its own environment."""
        environment = {
            "HOME": str(self.home),
            "PATH": f"{VENV}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # see tests/conftest.py
            "SUPSUP_CACHE": str(self.home / "cache"),
        } | variables
        if "PYTHONPATH" in os.environ:  # the code under test need not be the installed one
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        pairs = [f"{key}={value}" for key, value in environment.items()]
        enter = ["nsenter", "-t", str(self.pid), "-n", "-p", "-m", "-u", "env", "-i", "-C", str(ROOT), *pairs]
        return [*enter, *map(str, words)]

    def run(self, *words: object, timeout_s: float = 180, **variables: str) -> subprocess.CompletedProcess:
        """Run a command in the host to its end."""
        return subprocess.run(
            self.command(*words, **variables),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *words: object, **variables: str) -> subprocess.Popen:
        """Start a command in the host; its output, both kinds together, is in ``stdout``."""
        return subprocess.Popen(
            self.command(*words, **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def must(self, *words: object, **variables: str) -> str:
        """Run a command that must succeed; return its output."""
        done = self.run(*words, **variables)
        assert done.returncode == 0, f"{words} on {self.name}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def pids(self, pattern: str) -> list[int]:
        """Return the processes whose command line matches, numbered as inside the host."""
        found = self.run("pgrep", "-f", pattern).stdout.split()
        return [int(pid) for pid in found]

    def close(self) -> None:
        """End every process of the host."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def connect(first: Host, second: Host) -> None:
    """Join two hosts by a cable: 10.77.0.1 and 10.77.0.2."""
    tag = f"{os.getpid() % 10000}"
    a, b = f"va{tag}", f"vb{tag}"
    subprocess.run(["ip", "link", "add", a, "type", "veth", "peer", "name", b], check=True)
    for host, link, address in ((first, a, "10.77.0.1"), (second, b, "10.77.0.2")):
        subprocess.run(["ip", "link", "set", link, "netns", str(host.pid)], check=True)
        host.must("ip", "addr", "add", f"{address}/24", "dev", link)
        host.must("ip", "link", "set", link, "up")
        host.must("ip", "route", "add", "default", "via", address)  # so that Ray takes it for its own


def until(condition, limit_s: float, what: str):
    """Wait for ``condition`` to give something true, and return that."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {limit_s} s for {what}")
