"""Every command that the product prints works as printed, over the kinds of runs."""

import os
import re
import shutil
import signal
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from core.own_code.permission import ALLOW_CODE
from tests.conftest import start_supsup, sweep_text
from tests.integration.hints import Place

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations
OWN = """
from torch import nn

def small(outputs, image_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, outputs))
"""
TRACKED = '{uri: "sqlite:///mlflow.db", figures: true}'
BOTH = "{scenarios: [GG, GNu], inference: {objective: H}, at: [2, 4]}"
OWN_LINES = {
    "network": '{kind: module, import_path: "own_nets:small", outputs: 8}',
    "mask": "{rule: top_k, density: 0.1}",
    "training": "{steps: 20, batch_size: 16, optimizer: {kind: adam, lr: 1.0e-2}, cohort_size: 2}",
}
HOP = {
    "benchmark": "{kind: split, dataset: digits, num_tasks: 5}",
    "network": "{kind: bn_mlp, hidden: [64], outputs: 10}",
    "training": "{epochs: 1, batch_size: 32, optimizer: {kind: sgd}, cohort_size: 2}",
    "evaluation": "{scenarios: [GG, GNs], hopfield: {batch_size: 16, lr: 200.0, gamma: 1.5e-2}}",
}
STREAM = {
    "network": "{kind: mlp, hidden: [48], outputs: 32}",
    "training": "{task_identity: none, steps: 60, batch_size: 16, optimizer: {kind: rmsprop, lr: 3.0e-3}, "
    "stream: {return_share: 0.5}, allocation: {decide_every: 15, epsilon: 0.35, rollback: true}, cohort_size: 2}",
    "evaluation": "{scenarios: [NNs]}",
}
BASELINE = {"baseline": "{kind: psp}", "evaluation": "{at: [2, 4]}"}
SPACED = "it's my $runs; ätna"
PLAIN = {"evaluation": BOTH, "tracking": TRACKED}
RUNS = {  # kind of run: lines of its sweep
    "plain": PLAIN,
    "only GG": {},
    "own network": OWN_LINES | {"tracking": TRACKED},
    "own network, inferred": OWN_LINES | {"evaluation": BOTH},
    "spaces and unicode": {"evaluation": BOTH, "folder": f'"{SPACED}"'},
    "stream": STREAM,
    "baseline": BASELINE,
    "HopSupSup": HOP,
    "search": {"search": "{space: {training.steps: [20, 40]}}", "tracking": TRACKED},
    "search, own network": OWN_LINES | {"search": "{space: {training.steps: [20, 40]}}"},
}
IN_SHELL = ("spaces and unicode",)  # every command; of other kinds those that need a shell
LONG = ("own network", "search", "spaces and unicode")  # with MLflow, as the plain run
COUNTS: dict[str, Counter] = {}


@pytest.fixture
def place(tmp_path, monkeypatch, capfd):
    """Return a folder named as people do; commands and relative paths start there."""
    folder = tmp_path / "my projects"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv(ALLOW_CODE, raising=False)
    (folder / "own_nets.py").write_text(OWN)
    Image.fromarray(np.zeros((6, 6), np.uint8)).save(folder / "image.png")

    def read():
        shown = capfd.readouterr()
        return f"{shown.out}\n{shown.err}"

    yield Place(folder, read)
    os.environ.pop(ALLOW_CODE, None)
    sys.modules.pop("own_nets", None)


@pytest.fixture(scope="module", autouse=True)
def _print_counts():
    yield
    for kind, counts in COUNTS.items():
        sys.stdout.write(
            f"{kind:<24}{sum(counts.values()):>3}  {', '.join(f'{n} {verb}' for verb, n in counts.items())}\n"
        )


def write(place, folder="runs", **lines):
    text = sweep_text(folder, **lines)
    (place.folder / "tiny.yaml").write_text(text)
    return ["--allow-code"] if "import_path" in text else []


def roots(place) -> list[str]:
    return sorted(str(path.parent.relative_to(place.folder)) for path in place.folder.rglob("run.json"))


def ask_everything(place, root, allow, storage="runs") -> None:
    """Use every command on a run, with right and with wrong words."""
    for words in (
        ["run", root], ["run", root, "name=other"], ["run", root, "--only-failed"], ["evaluate", root],
        ["evaluate", root, "training.steps=3"], ["infer", root, "image.png"], ["infer", root, "nowhere.png"],
        ["status", root], ["status", "--storage", storage], ["verify", root], ["report", root], ["logs", root],
        ["sync", root], ["export", root, "--out", "files"], ["export", root, "--mlflow"], ["export", root],
        ["capacity", root, "--at", "5"], ["reproduce", "T99"],
    ):  # fmt: skip
        place.do(*words)  # an own network is refused here, with a hint
        if allow:
            place.do(*allow, *words)


def check(place, kind, expected=()) -> None:
    """Collect, count and run the hints; fail on one that does not work."""
    place.read_files()
    for saved in place.folder.rglob("artifacts/config.yaml"):
        shutil.copy(saved, place.folder)  # "save the artifact config.yaml"
    fails = place.run_all(dict(expected), in_shell=kind in IN_SHELL)
    COUNTS[kind] = Counter(verb(hint.command) for hint in place.hints.values())
    assert not fails + place.faults, "\n".join(fails + place.faults)
    assert COUNTS[kind]


def verb(command: str) -> str:
    words = [word for word in command.split() if not word.startswith("--") and "=" not in word]
    return " ".join(words[:1] if words[0] != "supsup" else words[1:2])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.long) if kind in LONG else kind for kind in RUNS]
)
def test_hints_of_a_run(place, kind):
    allow = write(place, **RUNS[kind])
    if allow:
        assert place.do("run", "tiny.yaml") == 2
    for words in (
        ["plan", "tiny.yaml"],
        ["run", "tiny.yaml"],
        ["plan", "tiny.yaml", "training.batch_size=8"],
    ):
        assert place.do(*allow, *words) == 0
    ask_everything(place, roots(place)[0], allow, SPACED if "spaces" in kind else "runs")
    check(place, kind)


def damage(place) -> str:
    """Remove the mask file of tasks 0 and 1; return the run folder."""
    (root,) = roots(place)
    place.hints.clear()  # they were for a whole run
    min((place.folder / root / "masks").iterdir()).unlink()
    return root


@pytest.mark.slow
@pytest.mark.parametrize("network", ["built in", "own"])
def test_hints_where_a_mask_is_missing(place, network):
    allow = write(place, evaluation=BOTH, **(OWN_LINES if network == "own" else {}))
    assert place.do(*allow, "run", "tiny.yaml") == 0
    root = damage(place)
    for words in (
        ["verify", root],
        ["evaluate", root],
        ["infer", root, "image.png"],
        ["report", root],
        ["status"],
    ):
        place.do(*allow, *words)
    check(place, f"missing mask, {network}", {"verify": 1})


def _fail(_handler, _job):
    raise ValueError("broken on purpose")


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["nothing", "a part", "part without task 0"])
def test_hints_where_jobs_failed(place, kept, monkeypatch):
    allow = write(place, **OWN_LINES, evaluation=BOTH)
    if kept != "nothing":
        assert place.do(*allow, "run", "tiny.yaml") == 0
        (root,) = roots(place)
        choose = min if kept == "part without task 0" else max
        choose((place.folder / root / "masks").iterdir()).unlink()
        shutil.rmtree(place.folder / root / "evaluations")
    place.hints.clear()
    monkeypatch.setattr("orchestrator.worker.supermasks.Cohorts.run", _fail)
    assert place.do(*allow, "run", "tiny.yaml", "executor.retries=0") == 1
    (root,) = roots(place)
    for words in (
        ["status", root],
        ["logs", root],
        ["evaluate", root],
        ["infer", root, "image.png"],
        ["verify", root],
    ):
        place.do(*allow, *words)
    check(place, f"failed jobs, {kept} kept", {"verify": 1, "run": 1, "evaluate": 1})


@pytest.mark.slow
@pytest.mark.long
def test_hints_of_a_stopped_run(place):
    write(place, training="{steps: 60000, batch_size: 16, optimizer: {kind: rmsprop}, cohort_size: 1}")
    started = start_supsup("run", "tiny.yaml", "--plain")
    for line in started.stdout:
        if re.search(r"training \d/4 tasks, step", line):
            break
    os.killpg(started.pid, signal.SIGINT)
    said = started.communicate(timeout=60)[0]
    assert started.returncode == 130, said
    place.hear(said, "stopped run")
    (root,) = roots(place)
    for words in (["status", root], ["verify", root], ["evaluate", root], ["report", root]):
        place.do(*words)
    check(place, "stopped", {"verify": 1, "evaluate": 0})


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["run", "plan", "evaluate", "infer", "submit"])
def test_code_that_is_not_allowed_is_reported_before_anything_is_written(place, verb):
    write(place, **OWN_LINES)
    before = sorted(place.folder.rglob("*"))
    words = {"evaluate": [], "infer": ["nowhere.png"]}
    target = "tiny.yaml"
    if verb in words:
        assert place.do("run", target, "--allow-code") == 0
        (target,) = roots(place)
        before = sorted(place.folder.rglob("*"))
    assert place.do(verb, target, *words.get(verb, [])) == 2
    assert any("--allow-code" in one for one in place.hints)
    assert "own_nets" not in sys.modules
    assert sorted(place.folder.rglob("*")) == before
