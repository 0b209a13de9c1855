"""The user's own arrays: an archive, or a folder of files, with what is wrong in them told to people."""

import io
import zipfile

import numpy as np
import pytest

from core.data import arrays as own
from core.data.arrays import read_arrays
from core.data.benchmarks import input_gather
from core.data.datasets import load_dataset, normalisation
from core.errors import ConfigError, DataError
from core.specs.benchmark import BenchmarkSpec


def parts(shape=(5, 4), dtype=np.uint8, num=12, names=("x_train", "y_train", "x_test", "y_test")):
    draw = np.random.default_rng(0)
    labels = np.arange(num) % 3
    images = [draw.integers(0, 256, (num, *shape)).astype(dtype) for _ in range(2)]
    return dict(zip(names, (images[0], labels, images[1], labels), strict=True))


def write(folder, **changes):
    made = {key: value for key, value in (parts() | changes).items() if value is not None}
    np.savez(folder / "my.npz", **made)
    return str(folder / "my.npz")


def test_an_archive_and_a_folder_of_the_same_arrays_are_the_same_data(tmp_path):
    names = ("train_images", "train_labels", "test_images", "test_labels")
    for name, array in parts(names=names).items():
        np.save(tmp_path / f"{name}.npy", array)
    archive = BenchmarkSpec(kind="permuted", dataset=write(tmp_path), num_tasks=2)
    folder = BenchmarkSpec(kind="permuted", dataset=f"{tmp_path}/", num_tasks=2)
    one, two = load_dataset(archive), load_dataset(folder)
    assert (one.num_classes, one.image_shape) == (3, (5, 4))
    assert one.digest() == two.digest()


def test_colours_come_first_and_floats_become_bytes(tmp_path):
    made = parts((5, 4, 3))
    floats = {key: made[key] / 255 for key in ("x_train", "x_test")}
    found = read_arrays(write(tmp_path, **(made | floats)), None)
    assert found.shape == (3, 5, 4)
    assert np.array_equal(found.train_images, made["x_train"].transpose(0, 3, 1, 2))


def test_a_relative_path_is_looked_for_in_the_data_folder_and_then_here(tmp_path, monkeypatch):
    data, here = tmp_path / "data", tmp_path / "here"
    data.mkdir()
    here.mkdir()
    write(here)
    monkeypatch.chdir(here)
    assert read_arrays("my.npz", data).source == "my.npz"
    write(data)
    assert read_arrays("my.npz", data).source == str(data / "my.npz")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_test": None}, "found no array x_test or test_images, only x_train, y_train, y_test"),
        ({"x_train": np.zeros((12, 20), np.uint8)}, "found shape [12, 20], expected [N, height, width]"),
        ({"x_train": np.zeros((12, 5, 4, 2), np.uint8)}, "found shape [12, 5, 4, 2]"),
        ({"x_train": np.zeros((12, 5, 4), np.int32)}, "found int32, expected uint8, or floats from 0 to 1"),
        ({"x_train": np.full((12, 5, 4), 2.0)}, "found floats from 2 to 2, expected 0 to 1"),
        ({"x_train": np.full((12, 5, 4), np.nan)}, "found floats from nan to nan"),
        ({"x_train": np.zeros((12, 4, 4), np.uint8)}, "expected one shape"),
        ({"x_train": np.zeros((0, 5, 4), np.uint8)}, "found shape [0, 5, 4]"),
        ({"x_train": np.array([None] * 12)}, "found Python objects"),
        ({"y_train": np.arange(11) % 3}, "found 12 train images and 11 labels"),
        ({"y_train": np.arange(12) / 3}, "found float64 of shape [12], expected whole numbers [N]"),
        ({"y_train": np.arange(12) - 1}, "found labels from -1 to 10"),
        ({"y_train": np.arange(12) % 4}, "found no test image of class 3"),
        ({"y_train": np.array([0, 1] * 6)}, "found no train image of class 2"),
        ({"y_train": np.zeros(12, int), "y_test": np.zeros(12, int)}, "found one class"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, words):
    with pytest.raises(DataError, match=r"my\.npz") as raised:
        read_arrays(write(tmp_path, **changes), None)
    assert words in str(raised.value)


def test_a_header_that_announces_more_than_its_file_takes_no_memory(tmp_path):
    path = write(tmp_path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 5, 4)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(100))
    with pytest.raises(DataError, match="bytes announced"):
        read_arrays(path, None)


def test_arrays_beyond_the_limit_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="expected at most 1,000"):
        read_arrays(write(tmp_path), None)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(60)])
def test_a_damaged_archive_is_named(tmp_path, content):
    (tmp_path / "my.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_arrays(str(tmp_path / "my.npz"), None)


def test_the_keys_of_a_sweep_must_be_those_of_the_data(tmp_path):
    path = write(tmp_path)
    wrong = BenchmarkSpec(kind="permuted", dataset=path, num_tasks=2, num_classes=4, shape=(5, 4))
    with pytest.raises(DataError, match=r"found 3 for benchmark\.num_classes, expected 4"):
        load_dataset(wrong)


def test_coloured_arrays_are_natural_images():
    spec = BenchmarkSpec(kind="split", dataset="a/", num_tasks=2, num_classes=4, shape=(3, 8, 8))
    assert (spec.class_order, spec.labels, spec.augment) == ("shuffled", "local", True)
    assert len(normalisation(spec)[1]) == 3


def test_colours_of_a_pixel_stay_together_when_it_is_moved():
    spec = BenchmarkSpec(kind="permuted", dataset="a/", num_tasks=2, num_classes=4, shape=(3, 8, 8))
    grey = BenchmarkSpec(kind="permuted", dataset="a/", num_tasks=2, num_classes=4, shape=(8, 8))
    plane = input_gather(grey, (8, 8), 1, seed=3)
    assert input_gather(spec, (3, 8, 8), 1, seed=3).tolist() == [*plane, *(plane + 64), *(plane + 128)]
    turned = BenchmarkSpec(kind="rotated", dataset="a/", num_tasks=2, num_classes=4, shape=(3, 8, 8))
    blank = input_gather(turned, (3, 8, 8), 1, seed=3)
    assert blank.max() == 192
    assert (blank == 192).sum() % 3 == 0


def test_a_name_that_is_none_is_answered_with_the_closest():
    with pytest.raises(ConfigError, match=r"found 'mnits', expected .* \(did you mean 'mnist'\?\)"):
        BenchmarkSpec(kind="permuted", dataset="mnits", num_tasks=2)
    with pytest.raises(ConfigError, match=r"a path such as my\.npz"):
        BenchmarkSpec(kind="permuted", dataset="svhn", num_tasks=2)
