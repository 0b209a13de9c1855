"""Data sets: found, fetched, or refused in words that help."""

import functools
import gzip
import http.server
import resource
import shutil
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

import core.data.idx
from core.data.datasets import load_dataset
from core.data.idx import FILES
from core.errors import DataError


@pytest.fixture(autouse=True)
def no_cache_and_no_network(tmp_path, monkeypatch):
    """Point the cache into the test's folder and the mirrors at a closed port."""
    monkeypatch.setattr(core.data.idx, "cache_folder", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(core.data.idx, "MIRRORS", {"mnist": ("http://127.0.0.1:9/",)})


def test_digits_and_synthetic_are_what_the_specs_say():
    for name, num_train, num_test in (("digits", 1437, 360), ("synthetic", 512, 200)):
        dataset = load_dataset(name)
        assert dataset.train_images.dtype == np.uint8
        assert (len(dataset.train_labels), len(dataset.test_labels)) == (num_train, num_test)
        assert set(dataset.train_labels.tolist()) == set(range(dataset.num_classes))


def test_digits_are_read_without_scikit_learn_and_are_those_it_gives():
    code = "import sys; from core.data.datasets import load_dataset; load_dataset('digits'); print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    from sklearn.datasets import load_digits

    dataset, given = load_dataset("digits"), load_digits()
    assert np.array_equal(np.concatenate([dataset.train_images, dataset.test_images]), given.images)
    assert np.array_equal(np.concatenate([dataset.train_labels, dataset.test_labels]), given.target)


def test_normalised_training_pixels_have_mean_0_and_deviation_1():
    dataset = load_dataset("digits")
    pixels = (dataset.train_images / dataset.scale - dataset.mean) / dataset.std
    assert abs(pixels.mean()) < 0.01
    assert abs(pixels.std() - 1) < 0.01


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_real_files_are_read(mnist_folder, name):
    dataset = load_dataset(name, mnist_folder)
    assert dataset.train_images.shape == (60_000, 28, 28)
    assert dataset.test_images.shape == (10_000, 28, 28)
    assert np.bincount(dataset.test_labels).min() > 800
    pixels = dataset.train_images / dataset.scale
    assert abs(pixels.mean() - dataset.mean) < 1e-3
    assert abs(pixels.std() - dataset.std) < 1e-3


@pytest.mark.data
def test_unpacked_files_are_read_too(mnist_folder, tmp_path):
    for stem in FILES:
        (tmp_path / stem).write_bytes(gzip.decompress((mnist_folder / "mnist" / f"{stem}.gz").read_bytes()))
    assert load_dataset("mnist", tmp_path).test_labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.data
@pytest.mark.parametrize("damage", ["flip", "truncate", "swap"])
def test_a_damaged_file_is_named_and_never_downloaded_over(mnist_folder, tmp_path, damage):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for stem in FILES:
        shutil.copyfile(mnist_folder / "mnist" / f"{stem}.gz", folder / f"{stem}.gz")
    bad = folder / f"{FILES[3]}.gz"
    content = bytearray(bad.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "truncate":
        del content[-100:]
    else:
        content = bytearray((folder / f"{FILES[1]}.gz").read_bytes())
    bad.write_bytes(content)
    with pytest.raises(DataError, match=str(bad)):
        load_dataset("mnist", tmp_path)


def unpacked(mnist_folder: Path, name: str, stem: str) -> bytes:
    return gzip.decompress((mnist_folder / name / f"{stem}.gz").read_bytes())


OTHER_NAMES = {
    "kaggle": "mnist/{dotted}",
    "kaggle with folders": "mnist/{dotted}/{dotted}",
    "7-zip": "mnist/{stem}/{stem}",
    "torchvision": "MNIST/raw/{stem}",
    "a browser": "{stem}(1).gz",
    "in capitals": "{stem}.GZ",
    "any name": "mnist/file-{number}",
}


@pytest.mark.data
@pytest.mark.parametrize("layout", OTHER_NAMES.values(), ids=OTHER_NAMES)
def test_files_under_other_names_are_found_by_their_content(mnist_folder, tmp_path, layout):
    for number, stem in enumerate(FILES):
        names = {"stem": stem, "dotted": stem.replace("-idx", ".idx"), "number": number}
        path = tmp_path / layout.format(**names)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".gz":
            shutil.copyfile(mnist_folder / "mnist" / f"{stem}.gz", path)
        else:
            path.write_bytes(unpacked(mnist_folder, "mnist", stem))
    assert load_dataset("mnist", tmp_path).test_labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.data
def test_half_a_download_beside_the_whole_file_does_no_harm(mnist_folder, tmp_path):
    for stem in FILES:
        (tmp_path / stem).write_bytes(unpacked(mnist_folder, "mnist", stem))
        packed = (mnist_folder / "mnist" / f"{stem}.gz").read_bytes()
        (tmp_path / f"{stem}.gz").write_bytes(packed[: len(packed) // 2])
    assert load_dataset("mnist", tmp_path).test_labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.data
def test_the_files_of_another_data_set_are_named_and_never_to_be_removed(mnist_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(core.data.idx, "MIRRORS", {"fashion_mnist": ("http://127.0.0.1:9/",)})
    for stem in FILES:
        (tmp_path / f"{stem}.gz").symlink_to(mnist_folder / "mnist" / f"{stem}.gz")
    with pytest.raises(DataError, match=f"{tmp_path} holds mnist, not fashion_mnist") as raised:
        load_dataset("fashion_mnist", tmp_path)
    assert "remove" not in str(raised.value)


def test_a_file_that_unpacks_to_gigabytes_is_refused_before_they_are_read(tmp_path):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(2**24)
    packed = b"".join([*(packer.compress(block) for _ in range(64)), packer.flush()])
    (tmp_path / f"{FILES[0]}.gz").write_bytes(packed)  # 1 GB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="is not the published file"):
        load_dataset("mnist", tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_a_named_folder_must_exist(tmp_path):
    with pytest.raises(DataError, match="does not exist; name an existing one with SUPSUP_DATA"):
        load_dataset("mnist", tmp_path / "nowhere")


def test_without_files_and_network_the_error_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz.*set SUPSUP_DATA=<data>"):
        load_dataset("mnist", tmp_path)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_missing_files_are_downloaded_with_a_checksum_into_the_cache(mnist_folder, tmp_path, monkeypatch):
    """The first mirror is closed, the second is a real HTTP server on loopback."""
    handler = functools.partial(QuietHandler, directory=str(mnist_folder / "mnist"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirrors = ("http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(core.data.idx, "MIRRORS", {"mnist": mirrors})
        dataset = load_dataset("mnist")
        server.shutdown()
    assert len(dataset.test_labels) == 10_000
    cached = {path.name for path in (tmp_path / "cache" / "mnist").iterdir()}
    assert cached == {f"{stem}.gz" for stem in FILES}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        del arguments


def test_data_files_are_never_in_the_project():
    root = Path(__file__).parents[3]
    for folder in ("core", "storage", "orchestrator", "sweeps", "tests"):
        assert not list((root / folder).rglob("*ubyte*"))
