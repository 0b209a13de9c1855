"""Data sets made by the user's function, in the shapes that libraries give them."""

import numpy as np
import pytest
import torch
from PIL import Image

from core.data.datasets import load_dataset
from core.errors import ConfigError, DataError
from core.own_code.permission import ALLOW_CODE
from core.specs.benchmark import BenchmarkSpec
from orchestrator.config.own_data import found_in_data
from orchestrator.config.sweep import SweepConfig

NUM = 12
GREY = np.random.default_rng(0).integers(0, 256, (NUM, 5, 4)).astype(np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (NUM, 5, 4, 3)).astype(np.uint8)
LABELS = np.arange(NUM) % 3

# As a torchvision set: a length and rows, and no end when it is iterated.
SETS = """
import numpy as np, torch
from PIL import Image

draw = np.random.default_rng
grey = draw(0).integers(0, 256, (12, 5, 4)).astype(np.uint8)
colour = draw(1).integers(0, 256, (12, 5, 4, 3)).astype(np.uint8)
labels = np.arange(12) % 3

class Rows:
    def __init__(self, images, as_image, as_label=int):
        self.rows = [(as_image(image), as_label(label)) for image, label in zip(images, labels)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return self.rows[number % len(self.rows)]

class Mappings(Rows):
    def __getitem__(self, number):
        image, label = super().__getitem__(number)
        return {"img": image, "fine_label": label, "id": number}

def twice(one):
    return one, one

def keras():
    return (grey, labels), (grey, labels)

def mapping():
    return {"x_train": grey, "y_train": labels, "x_test": grey, "y_test": labels}

def floats():
    return twice(Rows(grey / np.float32(255), lambda image: image[None]))

def tensors():
    return twice(Rows(colour, lambda image: torch.from_numpy(image).permute(2, 0, 1) / 255, torch.tensor))

def whole_tensors():
    images = torch.from_numpy(colour).permute(0, 3, 1, 2)
    return twice((images, torch.from_numpy(labels)))

def pillow():
    return twice(Rows(colour, Image.fromarray))

def wide_pillow():
    return twice(Rows(grey.astype(np.uint16) * 257, Image.fromarray))

def hugging_face():
    return {"train": Mappings(colour, Image.fromarray), "test": Mappings(colour, Image.fromarray)}

def generators():
    return twice(None) if False else ((row for row in Rows(grey, lambda i: i).rows), iter(Rows(grey, lambda i: i).rows))

def where(folder):
    assert folder.name == "given", folder
    return keras()

def spoiling():
    torch.set_default_dtype(torch.float64)
    return keras()

def exiting():
    raise SystemExit(0)

def nothing():
    return None

def no_pairs():
    return twice([1, 2, 3, 4])

def other_keys():
    return twice([{"picture": 1, "label": 2}] * 3)

def mixed_shapes():
    return twice([(grey[0], 0), (grey[1][:3], 1)])

def no_number():
    return twice([(grey[0], "cat"), (grey[0], "dog")])

def empty():
    return twice([])

def tasks():
    return [((grey, labels), (grey, labels)), ((grey[:8], labels[:8] % 2), (grey[:4], labels[:4] % 2))]

def unequal_tasks():
    return [((grey, labels), (grey, labels)), ((colour, labels), (colour, labels))]

def no_tasks():
    return []
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "made_sets.py").write_text(SETS)
    monkeypatch.setenv(ALLOW_CODE, "1")
    return tmp_path


def made(name, folder=None, **keys):
    return load_dataset(
        BenchmarkSpec(kind="split", dataset=f"made_sets:{name}", num_tasks=1, num_classes=3, **keys), folder
    )


@pytest.mark.parametrize("name", ["keras", "mapping", "floats", "wide_pillow", "generators"])
def test_grey_images_are_the_same_data_in_every_shape(name):
    found = made(name, shape=(5, 4))
    assert np.array_equal(found.train_images, GREY)
    assert np.array_equal(found.test_labels, LABELS)
    assert (found.num_classes, found.scale, found.mean) == (3, 255.0, 0.5)


@pytest.mark.parametrize("name", ["tensors", "whole_tensors", "pillow", "hugging_face"])
def test_so_are_coloured_ones(name):
    found = made(name, shape=(3, 5, 4))
    assert np.array_equal(found.train_images, COLOUR.transpose(0, 3, 1, 2))
    assert np.array_equal(found.train_labels, LABELS)
    assert len(found.mean) == 3


def test_a_function_that_asks_for_it_gets_the_folder_of_data_sets(tmp_path):
    assert made("where", tmp_path / "given", shape=(5, 4)).num_classes == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent", "cannot be imported"),
        ("exiting", "it ended the program"),
        ("nothing", "found a NoneType; expected two sets"),
        ("no_pairs", "train: row 0: found a int, expected (image, label)"),
        ("other_keys", "row 0: found the keys picture, label, expected one of image, img"),
        ("mixed_shapes", "row 1: found an image of [3, 4], expected [5, 4] as in row 0"),
        ("no_number", "row 0: found label 'cat', expected a whole number"),
        ("empty", "train: found no image"),
        ("spoiling", "sets torch's default type to torch.float64 for the whole process"),
    ],
)
def test_what_is_wrong_is_named(name, words):
    with pytest.raises((ConfigError, DataError)) as raised:
        made(name, shape=(5, 4))
    assert f"benchmark.dataset: made_sets:{name}" in str(raised.value)
    assert words in str(raised.value)
    assert torch.get_default_dtype() == torch.float32


def test_nothing_runs_without_permission(monkeypatch, folder):
    (folder / "made_sets.py").write_text("raise SystemExit('it ran')")
    monkeypatch.delenv(ALLOW_CODE)
    with pytest.raises(ConfigError, match=r"is your own code, which runs when it is imported"):
        made("keras", shape=(5, 4))


def module(name, **keys):
    return BenchmarkSpec(kind="module", import_path=f"made_sets:{name}", **keys)


def test_tasks_of_a_function_keep_their_images_and_labels():
    spec = module("tasks", num_tasks=2, num_classes=3, shape=(5, 4))
    data = load_dataset(spec)
    assert (spec.real_classes, spec.labels, data.num_classes, len(data.train_labels)) == (3, "local", 5, 20)
    assert data.train_labels[12:].tolist() == [3, 4, 3, 3, 4, 3, 3, 4]
    assert len(set(data.part_digests)) == 2


def test_number_shape_and_classes_of_tasks_are_found_in_them():
    class Config:
        data_dir = None
        benchmark = module("tasks")

    assert not Config.benchmark.is_settled
    config: SweepConfig = Config()
    assert found_in_data(config) == {"num_classes": 3, "shape": [5, 4], "num_tasks": 2}


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("unequal_tasks", {}, "task 1: found images of [3, 5, 4], expected [5, 4] as in task 0"),
        ("no_tasks", {}, "found no task"),
        ("mapping", {}, "found a dict, expected a list of tasks"),
        ("tasks", {"num_tasks": 3}, "found 2 tasks, expected 3"),
        ("tasks", {"num_classes": 5}, "found 3 for benchmark.num_classes, expected 5"),
    ],
)
def test_wrong_tasks_are_named(name, keys, words):
    with pytest.raises(DataError) as raised:
        load_dataset(module(name, **keys))
    assert words in str(raised.value)


def test_pillow_images_of_one_bit_are_grey():
    from core.data.decode import to_array

    assert to_array(Image.new("1", (2, 2), 1)).tolist() == [[255, 255], [255, 255]]
