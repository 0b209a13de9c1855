"""Commands that the product prints: found in what it says and writes, then run in a shell as printed."""

import html
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from core.own_code.permission import ALLOW_CODE
from tests.conftest import supsup

PROGRAM = r"(?:supsup|mlflow) "  # those of Ray need a cluster: tests/cluster runs them
QUOTED = re.compile(rf"`((?:[A-Z_]+=\S+ )?{PROGRAM}[^`]+)`")
USAGE = re.compile(r"Try '(supsup [^']*)' for help")
LINE = re.compile(rf"(?:^|: | {{2,}})((?:[A-Z_]+=\S+ )?{PROGRAM}.+)$", re.MULTILINE)
VERBS = "run|plan|status|evaluate|infer|capacity|verify|submit|logs|stop|token|shellenv|report|export|sync|ui|reproduce"
BARE = re.compile(rf"\bsupsup (?:--[\w-]+ )?(?:{VERBS})\b")
SERVES = re.compile(r"\bsupsup (?:--allow-code )?ui\b|\bmlflow models serve\b")
PLAIN = re.compile(r"supsup [^$`;|&<>()*?~]+")  # nothing that a shell would change, quotes apart
LIMIT_S = 120
SHELL_ENV = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "COLUMNS": "80",
    "LANG": "C.UTF-8",
}


@dataclass(frozen=True)
class Hint:
    """A command as printed. where: what said it. typed: the words of the user's command, if it was one."""

    command: str
    where: str
    typed: str = ""


def commands(text: str) -> list[str]:
    """Return the commands in a text: in backquotes, after "next:" or a colon, on a line of their own."""
    quoted = [*QUOTED.findall(text), *USAGE.findall(text)]
    return [*quoted, *LINE.findall(QUOTED.sub("", text))]


def bare(text: str) -> list[str]:
    """Return what looks like a command and cannot be copied: not marked as one, or broken over lines."""
    for one in commands(text):
        text = text.replace(one, "")
    return BARE.findall(text)


@dataclass
class Place:
    """A folder in which a user works, and all hints that were given there."""

    folder: Path
    read: Callable[[], str]  # () -> what was printed since the last call
    hints: dict[str, Hint] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def do(self, *words: object) -> int:
        """Run a command in this process as the user does, and collect what it suggests. Returns the exit code."""
        self.read()
        os.environ.pop(ALLOW_CODE, None)
        sys.modules.pop("own_nets", None)
        code = supsup(*words)
        verb = next(word for word in words if word != "--allow-code")
        self.hear(self.read(), f"supsup {verb}", shlex.join(map(str, words)))
        self.codes.append(code)
        os.environ.pop(ALLOW_CODE, None)
        return code

    def hear(self, text: str, where: str, typed: str = "") -> None:
        """Collect the commands in a text."""
        for command in commands(text):
            self.hints.setdefault(command, Hint(command, where, typed))
        self.faults += [f"{where}: {one!r} cannot be copied, in {text!r}" for one in bare(text)]

    def read_files(self) -> None:
        """Collect the commands in pages, notes and records below the folder."""
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in (".html", ".md"):
                self.hear(re.sub(r"<[^>]*>", " ", html.unescape(path.read_text())), path.name)
            if path.suffix == ".json":
                for text in _strings(json.loads(path.read_text())):
                    self.hear(text, path.name)
            if path.suffix == ".db":
                for text in _notes(path):
                    self.hear(text, "MLflow")

    def fill(self, hint: Hint) -> str:
        """Return a command with its placeholders filled in, as a user would."""
        values = {
            "IMAGE": "image.png",
            "URI": "sqlite:///filled.db",
            "SWEEP.yaml": "tiny.yaml",
            "...": hint.typed,
            "5001": str(_free_port()),
        }
        words = "|".join(rf"(?<=\s){re.escape(word)}(?!\S)" for word in values)
        return re.sub(words, lambda found: values[found[0]], hint.command)

    def run(self, command: str, *, in_shell: bool) -> tuple[int, str]:
        """Run a command; return its exit code and what it said.

        in_shell: always in a shell of its own. Otherwise a plain command of ours runs in this process, which
        takes a tenth of the time, with its words as a shell would split them.
        """
        if in_shell or SERVES.search(command) or not PLAIN.fullmatch(command):
            return self.run_in_shell(command)
        self.read()
        os.environ.pop(ALLOW_CODE, None)
        sys.modules.pop("own_nets", None)
        code = supsup(*shlex.split(command)[1:])
        return code, self.read()

    def run_in_shell(self, command: str) -> tuple[int, str]:
        """Run a command in a shell; return its exit code and what it said. A server is ended once it answers."""
        environment = {key: value for key, value in os.environ.items() if key != ALLOW_CODE} | SHELL_ENV
        log = self.folder / "said.txt"
        with log.open("wb") as said:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        try:
            if SERVES.search(command):
                return _end_server(process, command, log), log.read_text()
            return process.wait(timeout=LIMIT_S), log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def run_all(self, expected: dict[str, int], *, in_shell: bool) -> list[str]:
        """Run every hint, those that mend last; return those that fail. expected: exit codes, by verb, that are not 0."""
        fails = []
        for hint in sorted(self.hints.values(), key=lambda one: " run " in one.command):
            command = self.fill(hint)
            code, said = self.run(command, in_shell=in_shell)
            wanted = next((code for verb, code in expected.items() if f" {verb} " in f"{command} "), 0)
            if code != wanted:
                fails.append(f"{hint.where}: {command}: exit code {code}, expected {wanted}: {said[-600:]}")
        return fails


def _end_server(process: subprocess.Popen, command: str, log: Path) -> int:
    """Wait until a server answers, end it, and return its exit code, 0 where it was our signal that ended it."""
    port = re.search(r"--port (\d+)", command)
    until_s = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < until_s:
        if _answers(int(port[1])) if port else "press Ctrl-C to stop" in log.read_text():
            os.killpg(process.pid, signal.SIGTERM)
            code = process.wait(timeout=30)
            return code if port is None else max(0, code)
        time.sleep(0.1)
    return process.poll() or 124


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/ping", timeout=2) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def _notes(database: Path) -> list[str]:
    # Of other tags, `mlflow.source.name` names the program, not a command to run.
    queries = (
        "select value from tags where key like '%note%'",
        "select value from experiment_tags where key like '%note%'",
    )
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for query in queries for row in connection.execute(query)]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
