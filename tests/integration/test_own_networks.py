"""The user's own network in whole runs: refused before anything is written, and never run unseen."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.own_code.permission import ALLOW_CODE
from orchestrator.config.load import load_sweep
from orchestrator.predict import load_predictor
from orchestrator.runs.run import locate_run
from storage.layout import RunLayout
from storage.run_file import read_run
from tests.conftest import supsup, sweep_text

NET = """
from torch import nn
from blocks import act

def small(outputs, image_shape):
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 16), act(), nn.Linear(16, outputs))
"""
BLOCKS = "from torch import nn\n\ndef act():\n    return nn.ReLU()\n"
ALONE = NET.replace("from blocks import act\n", "").replace("act()", "nn.ReLU()")
CLASS = """
import torch, torch.nn.functional as F
from torch import nn

class small(nn.Module):
    def __init__(self, outputs, image_shape):
        super().__init__()
        channels, height, width = image_shape
        self.a, self.o = nn.Linear(channels * height * width, 16), nn.Linear(16, outputs)
        MORE

    def forward(self, x):
        FIRST
        f = F.relu(self.a(x.flatten(1)))
        BETWEEN
        return LAST
"""


def of_class(more="pass", first="pass", between="pass", last="self.o(f)"):
    text = CLASS.replace("MORE", more).replace("FIRST", first)
    return text.replace("BETWEEN", between).replace("LAST", last)


REFUSED = {
    "02 rrelu": (ALONE.replace("ReLU", "RReLU"), "layer 2 (RReLU)"),
    "03 own buffer": (
        of_class('self.register_buffer("mu", torch.zeros(16))', between="self.mu.add_(f.detach().mean(0))"),
        "changes mu",
    ),
    "06 tied": (
        of_class("self.b, self.d = nn.Linear(16, 16), nn.Linear(16, 16); self.d.weight = self.b.weight"),
        "b.weight and d.weight are one weight",
    ),
    "08 tuple": (of_class(last="self.o(f), f"), "gave a tuple, expected logits [B, outputs]"),
    "09 outputs": (of_class("self.o = nn.Linear(16, 5)"), "gives 5 outputs, network.outputs says 8"),
    "10 no arguments": (ALONE.replace("outputs, image_shape):", "):"), "TypeError"),
    "10 raises": (ALONE.replace("    channels", "    1 / 0\n    channels"), "ZeroDivisionError"),
    "10 lazy": (ALONE.replace("nn.Linear(16,", "nn.LazyLinear("), "3.weight of LazyLinear has no size yet"),
    "raises at import": ("raise OSError(28, 'full')\n" + ALONE, "OSError"),
    "parses arguments": (
        "import argparse; argparse.ArgumentParser().parse_args(['x'])\n" + ALONE,
        "SystemExit",
    ),
    "ends its process": ("import os; os._exit(0)\n" + ALONE, "SystemExit: 0: it ended the program"),
    "raises what has no text": (
        "class Mute(Exception):\n    def __str__(self): return None\nraise Mute\n" + ALONE,
        "Mute: an error without a readable text, own_net.py, line 3",
    ),
    "raises no exception": ("raise GeneratorExit\n" + ALONE, "GeneratorExit"),
    "draws at import": (
        "import numpy; SCALE = numpy.random.default_rng().random()\n" + of_class(between="f = f * SCALE"),
        "in another process; expected nothing that differs there: random numbers or times when its file is imported",
    ),
    "32 no statistics": (
        ALONE.replace("nn.ReLU()", "nn.BatchNorm1d(16, track_running_stats=False)"),
        "layer 2 (BatchNorm1d) has no running statistics",
    ),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the folder of the user's files, where commands start; own code is allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(ALLOW_CODE, "1")
    forget()
    yield tmp_path
    forget()


def forget():
    for name in ("own_net", "blocks"):
        sys.modules.pop(name, None)


def write(place, net=NET, blocks=BLOCKS, **changes):
    (place / "own_net.py").write_text(net)
    (place / "blocks.py").write_text(blocks)
    lines = {
        "network": '{kind: module, import_path: "own_net:small", outputs: 8}',
        "mask": "{rule: top_k, density: 0.3}",
        "training": "{steps: 20, batch_size: 16, optimizer: {kind: adam, lr: 1.0e-2}}",
        "benchmark": "{kind: permuted, dataset: synthetic, num_tasks: 2}",
        "evaluation": "{scenarios: [GG], at: [1, 2]}",
    }
    path = place / "tiny.yaml"
    path.write_text(sweep_text(place / "runs", **(lines | changes)))
    return path


def root_of(place):
    (root,) = (place / "runs").glob("tiny-*")
    return root


def image(place):
    np.save(place / "image.npy", np.zeros((6, 6), np.uint8))
    return place / "image.npy"


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_what_is_no_network_for_masks_is_refused_before_anything_is_written(place, capfd, case, verb):
    net, words = REFUSED[case]
    assert supsup(verb, write(place, net)) == 2
    shown = capfd.readouterr()
    assert "error: network.import_path: own_net:small" in shown.err
    assert words in shown.err
    assert "bug in supsup" not in shown.err
    assert "Traceback" not in shown.err
    assert not (place / "runs").exists()


def test_a_normalisation_that_one_image_cannot_do_is_said_before_the_run(place, capsys):
    net = ALONE.replace("nn.ReLU()", "nn.BatchNorm1d(16)")
    inferred = "{scenarios: [GG, GNu], at: [2], inference: {objective: H, images: IMAGES}}"
    sweep = write(place, net, evaluation=inferred.replace("IMAGES", "1"))
    assert supsup("run", sweep) == 2
    assert "evaluation.inference: one image cannot decide in network.import_path" in capsys.readouterr().err
    assert not (place / "runs").exists()
    for setting in ("images=16", "norms=running", "algorithm=exhaustive"):
        assert supsup("run", sweep, f"evaluation.inference.{setting}") == 0
    root, pixels = root_of(place), image(place)
    assert (
        supsup("evaluate", root, "evaluation.inference.algorithm=binary", "evaluation.inference.images=each")
        == 2
    )
    assert supsup("infer", root, pixels, "--algorithm", "one_shot") == 2
    assert "one image cannot decide" in capsys.readouterr().err
    assert supsup("infer", root, pixels, "--algorithm", "exhaustive") == 0


def test_a_change_of_the_input_reaches_no_other_task(place):
    inference = "{objective: H, algorithm: exhaustive, images: each}"
    evaluation = f"{{scenarios: [GG, GNu], at: [2], inference: {inference}}}"
    found = []
    for change in ("x.sub_(0.5)", "x = x - 0.5"):
        forget()
        sweep = write(place, of_class(first=change), evaluation=evaluation, name=f"tiny{len(found)}")
        assert supsup("run", sweep) == 0
        run = locate_run(load_sweep(sweep))
        tables = [pq.read_table(path).to_pydict() for path in sorted(run.layout.evaluations.iterdir())]
        found.append((run.store.info_table()["digest"].to_pylist(), tables))
        assert len(tables) == 2
    assert found[0] == found[1]


@pytest.mark.parametrize("words", ["print('made'); ", "import os; os.system('echo made'); "])
def test_what_user_code_prints_is_not_in_the_json(place, capfd, words):
    net = (
        words
        + "\n"
        + of_class("print('built')", between="print('called'); __import__('os').write(1, b'written')")
    )
    assert supsup("run", write(place, net), "--json") == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out)["num_trained"] == 2
    for said in ("made", "built", "called", "written"):
        assert said in shown.err
    assert supsup("infer", root_of(place), image(place), "--objective", "H", "--json") == 0
    assert len(json.loads(capfd.readouterr().out)) == 1


def test_relative_paths_stay_those_of_the_user_whatever_the_code_changes(place):
    sweep = write(place, "import os; os.chdir('/')\n" + ALONE)
    assert supsup("run", sweep, "storage.uri=here") == 0
    assert [path.name for path in (place / "here").glob("tiny-*")]
    assert Path.cwd() == place


EDITS = [("own_net.py", NET.replace("16", "24")), ("blocks.py", BLOCKS.replace("ReLU", "Tanh"))]


@pytest.mark.parametrize(("file", "text"), EDITS, ids=["network", "helper"])
def test_edited_code_answers_nothing_and_does_not_run(place, capsys, file, text):
    sweep = write(place)
    assert supsup("run", sweep) == 0
    root, pixels = root_of(place), image(place)
    forget()
    (place / file).write_text(text + f"\nopen({str(place / 'ran')!r}, 'w')\n")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for words in (
        ["run", sweep, "benchmark.num_tasks=3"], ["run", root], ["plan", root], ["evaluate", root],
        ["infer", root, pixels],
    ):  # fmt: skip
        capsys.readouterr()
        assert supsup(*words) == 2, words
        assert "the code of network.import_path is" in capsys.readouterr().err
    with pytest.raises(Exception, match="was edited"):
        load_predictor(root)
    assert not (place / "ran").exists()
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert supsup("verify", root) == 0


def test_an_edit_is_seen_in_the_same_process(place):
    sweep = write(place)
    assert supsup("run", sweep) == 0
    (place / "blocks.py").write_text(BLOCKS.replace("ReLU", "Hardtanh"))
    assert supsup("run", sweep, "name=other") == 0
    both = [locate_run(load_sweep(sweep, [f"name={name}"])) for name in ("other",)]
    (place / "blocks.py").write_text(BLOCKS)
    both.append(locate_run(load_sweep(sweep)))
    digests = [run.store.info_table()["digest"].to_pylist() for run in both]
    assert digests[0] != digests[1]


def test_a_file_that_is_imported_unseen_is_refused(place, capsys):
    net = NET.replace(
        "from blocks import act", "import importlib\nact = importlib.import_module('bl' + 'ocks').act"
    )
    assert supsup("run", write(place, net)) == 2
    assert "blocks.py, which its source does not name" in capsys.readouterr().err


def test_the_permission_may_name_a_path_or_a_digest(place, monkeypatch, capsys):
    sweep = write(place)
    other = place / "elsewhere"
    other.mkdir()
    digest = locate_run(load_sweep(sweep)).identity.network["code"]
    for allowed, code in (
        (other, 2), ("0" * 64, 2), ("yes", 2), ("0", 2), ("", 2), (place / "blocks.py", 2),
        (place, 0), (place / "own_net.py", 0), ("own_net.py", 0), (digest, 0), ("1", 0),
    ):  # fmt: skip
        forget()
        monkeypatch.setenv(ALLOW_CODE, str(allowed))
        assert supsup("plan", sweep) == code, allowed
        assert code == 0 or "own_net" not in sys.modules, allowed
        forget()
        if allowed != "":
            monkeypatch.delenv(ALLOW_CODE)
            for words in (
                [f"--allow-code={allowed}", "plan", sweep],
                ["plan", sweep, f"--allow-code={allowed}"],
            ):
                assert supsup(*words) == code, words
    assert "code that you did not allow" in capsys.readouterr().err


def test_a_permission_for_one_network_does_not_cover_the_run_of_somebody_else(place, monkeypatch, capsys):
    """Its run.json names a file that lies where it is opened, as in an unpacked archive."""
    assert supsup("run", write(place)) == 0
    mine = place / "mine"
    mine.mkdir()
    (mine / "my_net.py").write_text(ALONE)
    root, pixels = root_of(place), image(place)
    forget()
    monkeypatch.setenv(ALLOW_CODE, str(mine))
    for words in (["infer", root, pixels], ["evaluate", root], ["run", root], ["plan", root]):
        assert supsup(*words) == 2, words
        assert "code that you did not allow" in capsys.readouterr().err
    assert "own_net" not in sys.modules


@pytest.mark.parametrize("key", ["import_path", "fingerprint", "code"])
def test_a_forged_record_runs_nothing(place, capsys, key):
    assert supsup("run", write(place)) == 0
    root, pixels = root_of(place), image(place)
    (place / "evil.py").write_text(f"open({str(place / 'ran')!r}, 'w')\n")
    record = json.loads((root / "run.json").read_text())
    record["config"]["network"]["import_path"] = "evil:small"
    if key == "fingerprint":
        record["fingerprint"] = "0" * 64
    if key == "code":
        del record["network"]["code"]
    (root / "run.json").write_text(json.dumps(record))
    forget()
    for words in (
        ["infer", root, pixels], ["evaluate", root], ["run", root], ["plan", root], ["status", root],
        ["verify", root], ["report", root], ["export", root, "--out", place / "out"],
    ):  # fmt: skip
        supsup(*words)
        assert "bug in supsup" not in capsys.readouterr().err
    assert not (place / "ran").exists()
    assert "evil" not in sys.modules


def test_a_run_whose_digest_is_that_of_one_file_goes_on(place):
    """As earlier versions recorded it."""
    sweep = write(place, benchmark="{kind: permuted, dataset: synthetic, num_tasks: 2}")
    old = hashlib.sha256(NET.encode()).hexdigest()
    with pytest.MonkeyPatch.context() as context:
        context.setattr("orchestrator.runs.run.code_digest", lambda path: old)
        assert supsup("run", sweep) == 0
    root = root_of(place)
    assert read_run(RunLayout(root)).network["code"] == old
    forget()
    assert supsup("infer", root, image(place), "--objective", "H") == 0
    assert supsup("run", sweep, "benchmark.num_tasks=3", "evaluation.at=[3]") == 0
    assert supsup("evaluate", root, "evaluation.scenarios=[GG]", "evaluation.at=[2]") == 0
    assert supsup("verify", root) == 0
    (place / "own_net.py").write_text(NET.replace("16", "24"))
    assert supsup("run", sweep) == 2


def test_the_folder_of_a_search_runs_only_the_code_of_its_runs(place, capsys):
    sweep = write(place, search="{space: {training.steps: [4, 5]}}", evaluation="{scenarios: [GG]}")
    assert supsup("run", sweep) == 0
    (folder,) = (path.parent for path in (place / "runs").glob("*/search.json"))
    assert supsup("run", folder) == 0
    forget()
    (place / "blocks.py").write_text(BLOCKS + f"open({str(place / 'ran')!r}, 'w')\n")
    capsys.readouterr()
    assert supsup("run", folder) == 2
    assert "the code of network.import_path is" in capsys.readouterr().err
    assert not (place / "ran").exists()
