"""What ``supsup check`` says of good and bad plug-ins; those of the documents are good."""

import re
from pathlib import Path

import numpy as np
import pytest

from core.own_code.permission import ALLOW_CODE
from tests.conftest import supsup

DOCS = Path(__file__).parents[3] / "docs/how-to"
BAD = """
import random, torch, numpy as np

images, labels = np.arange(12 * 20, dtype=np.uint8).reshape(12, 5, 4), np.arange(12) % 3

def unseeded():
    noise = np.frombuffer(random.randbytes(images.size), np.uint8).reshape(images.shape)
    return (noise, labels), (images, labels)

def by_hash():
    order = [sorted(range(12), key=lambda n: hash(str(n)))[k] for k in range(12)]
    return (images[order], labels[order]), (images, labels)

def leaking():
    return (images, labels), (images, labels)

class Drops(torch.nn.Module):
    def __init__(self, outputs, image_shape):
        super().__init__()
        self.layer = torch.nn.Linear(4, outputs)

    def forward(self, x):
        return torch.nn.functional.dropout(self.layer(x.flatten(1)[:, :4]), training=True)

from core.baselines.method import Plain

class Unseeded(Plain):
    def begin(self, values, task):
        for layer, weight in enumerate(self.new_weights(range(self.num_layers))):
            values[f"w{layer}"] = torch.randn_like(weight)

    def trained(self, task):
        return [f"w{layer}" for layer in range(self.num_layers)]

    def weights(self, values, task, course=None):
        return [values[f"w{layer}"] for layer in range(self.num_layers)]

class Forgetful(Unseeded):
    def begin(self, values, task):
        if task == 0:
            self.kept = self.new_weights(range(self.num_layers))
        values.update({f"w{layer}": weight.clone() for layer, weight in enumerate(self.kept)})

class Half(Plain):
    pass

class Once:
    pass
"""


def blocks(page, name):
    """Return the Python file of this name in a document."""
    text = (DOCS / page).read_text()
    found = re.search(rf"```python\n(# {name}\n.*?)```", text, re.DOTALL)
    assert found, f"{page} has no {name}"
    return found.group(1)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(ALLOW_CODE, "1")
    (tmp_path / "bad_things.py").write_text(BAD)
    return tmp_path


def said(capsys):
    out = capsys.readouterr()
    return " ".join(f"{out.out} {out.err}".split())


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("data", "digits", "no test image is a training image too"),
        ("data", "synthetic", "4 classes, 512 training and 200 test images of 6 x 6"),
        ("data", "my_data:make", "the same data each time"),
        ("tasks", "my_data:tasks", "3 tasks of 2 to 4 classes"),
    ],
)
def test_what_comes_with_supsup_and_what_the_documents_show_is_good(place, capsys, kind, name, words):
    (place / "my_data.py").write_text(blocks("own-data.md", "my_data.py"))
    assert supsup("check", kind, name) == 0
    shown = said(capsys)
    assert words in shown
    assert shown.endswith(f"{kind} {name}: good")


def test_own_arrays_are_checked(place, capsys):
    images, labels = np.random.default_rng(0).integers(0, 256, (12, 5, 4)).astype(np.uint8), np.arange(12) % 3
    np.savez(place / "my.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert supsup("check", "data", "my.npz") == 0
    assert "warning: 12 test images (100.0%) are training images too" in said(capsys)


@pytest.mark.slow
def test_the_network_of_the_documents_is_good(place, capsys):
    (place / "my_nets.py").write_text(blocks("own-network.md", "my_nets.py"))
    (name,) = re.findall(r"import_path: \"?(my_nets:\w+)", (DOCS / "own-network.md").read_text())[:1]
    assert supsup("check", "network", name, "--shape", "3,32,32") == 0
    assert "a mask trained twice has the same bits" in said(capsys)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("data", "bad_things:unseeded", "the second call made other data"),
        ("data", "bad_things:by_hash", "another process made other data"),
        ("data", "bad_things:absent", "cannot be imported"),
        ("data", "nothing", "expected 'digits'"),
        ("tasks", "bad_things:leaking", "task 0: train: row 0: found a ndarray"),
        ("network", "bad_things:Drops", "draws random numbers in training"),
        ("method", "bad_things:Unseeded", "when it learned the same tasks again"),
        ("method", "bad_things:Forgetful", "no attribute 'kept'"),
        ("method", "bad_things:Half", "gave a Half without begin, trained, weights"),
        ("tracker", "bad_things:Once", "being made raised"),
        ("tracker", "tensorbord", "expected package.file:name, or one of: mlflow, tensorboard, wandb"),
        ("planet", "mars", "expected data, tasks, network"),
    ],
)
def test_a_broken_promise_is_named(capsys, kind, name, words):
    assert supsup("check", kind, name) == (1 if name.endswith("Once") else 2)
    assert words in said(capsys)


def test_nothing_runs_without_permission(monkeypatch, capsys):
    monkeypatch.delenv(ALLOW_CODE)
    for kind, name in (
        ("data", "bad_things:leaking"),
        ("tasks", "bad_things:leaking"),
        ("network", "bad_things:Drops"),
    ):
        assert supsup("check", kind, name) == 2
        assert "is your own code, which runs when it is imported" in said(capsys)


def test_the_method_of_the_documents_is_good(place, capsys):
    (place / "my_methods.py").write_text(blocks("compare-runs.md", "my_methods.py"))
    assert supsup("check", "method", "my_methods:RankOne") == 0
    assert "the same again and when resumed" in said(capsys)


@pytest.mark.parametrize("name", ["tensorboard", "lines_tracker:Lines"])
def test_trackers_are_checked(place, capsys, name):
    (place / "lines_tracker.py").write_text(blocks("trackers.md", "lines_tracker.py"))
    assert supsup("check", "tracker", name) == 0
    assert "it kept its promises in 5 situations" in said(capsys)


@pytest.mark.parametrize("shape", ["3,32", "2,8,8", "a,b,c", "3,0,4"])
def test_a_wrong_shape_is_named(capsys, shape):
    assert supsup("check", "network", "bad_things:Drops", "--shape", shape) == 2
    assert "--shape" in said(capsys)
