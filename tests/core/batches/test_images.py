"""Batches of images: cropped and flipped as a plain loop has it, labels by task, schedules."""

import tarfile

import numpy as np
import pytest
import torch

from core.batches.images import crop_and_flip, images_at_test, task_labels
from core.batches.inputs import to_device
from core.data.benchmarks import task_classes, task_view
from core.data.cifar import ARCHIVE, RECORD_BYTES
from core.data.datasets import load_dataset
from core.data.image_folder import _random_box
from core.errors import ConfigError, DataError
from core.specs.benchmark import BenchmarkSpec
from core.specs.training import ScheduleSpec, TrainingSpec
from core.training.modules import lr_shares, num_steps

CPU = torch.device("cpu")
SPLIT = BenchmarkSpec(kind="split", dataset="cifar100", num_tasks=20)


@pytest.fixture
def archive(tmp_path):
    """Write an archive of the publisher's layout: 3 train and 2 test records of each class."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    with tarfile.open(folder / ARCHIVE, "w:gz") as file:
        for part, number in (("train", 300), ("test", 200)):
            records = draw.integers(0, 256, size=(number, RECORD_BYTES), dtype=np.uint8)
            records[:, 1] = np.arange(number) % 100
            path = tmp_path / f"{part}.bin"
            path.write_bytes(records.tobytes())
            file.add(path, f"cifar-100-binary/{part}.bin")
    return tmp_path


def link(archive: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    archive.addfile(member)


def huge(archive: tarfile.TarFile, name: str, target: str) -> None:
    del target
    member = tarfile.TarInfo(name)
    member.size = 500_000_000
    archive.addfile(member, Zeros())


class Zeros:
    def read(self, size: int) -> bytes:
        return bytes(size)


@pytest.mark.parametrize(
    ("add", "target", "words"),
    [
        (link, "/etc/passwd", "holds no file 'train.bin'"),
        (link, "train.bin", "holds no file 'train.bin'"),
        (huge, "", "bytes when unpacked"),
    ],
)
def test_archives_with_links_or_without_end_are_refused(tmp_path, add, target, words):
    with tarfile.open(tmp_path / ARCHIVE, "w:gz", compresslevel=1) as file:
        add(file, "train.bin", target)
    with pytest.raises(DataError, match=words):
        load_dataset("cifar100", tmp_path)


def test_crops_and_flips_are_those_of_a_plain_loop():
    draw = np.random.default_rng(1)
    images = draw.integers(0, 256, size=(162, 3, 8, 8), dtype=np.uint8)
    found = crop_and_flip(torch.from_numpy(images), torch.arange(162, dtype=torch.uint8)).numpy()
    for code, (image, result) in enumerate(zip(images, found, strict=True)):
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        top, left = divmod(code // 2, 9)
        expected = padded[:, top : top + 8, left : left + 8]
        assert np.array_equal(result, expected[:, :, ::-1] if code % 2 else expected)
    assert np.array_equal(found[2 * (9 * 4 + 4)], images[2 * (9 * 4 + 4)])


def test_cifar100_is_read_from_its_archive(archive):
    dataset = load_dataset("cifar100", archive)
    assert dataset.train_images.shape == (300, 3, 32, 32)
    assert dataset.image_shape == (3, 32, 32)
    with tarfile.open(archive / "cifar-100-binary" / ARCHIVE) as file:
        content = file.extractfile("cifar-100-binary/test.bin").read()
    record = np.frombuffer(content, dtype=np.uint8)[RECORD_BYTES : 2 * RECORD_BYTES]
    assert dataset.test_labels[1] == record[1] == 1
    assert np.array_equal(dataset.test_images[1].reshape(-1), record[2:])


def test_a_damaged_archive_is_an_error_that_names_it(archive):
    path = archive / "cifar-100-binary" / ARCHIVE
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match=ARCHIVE):
        load_dataset("cifar100", archive)


def test_tasks_have_classes_of_their_own_counted_from_zero(archive):
    dataset = load_dataset("cifar100", archive)
    order = np.concatenate([task_classes(SPLIT, task, seed=3) for task in range(20)])
    assert sorted(order.tolist()) == list(range(100))
    assert order.tolist() != list(range(100))
    view = task_view(SPLIT, dataset, 7, seed=3)
    pixels = to_device(dataset, "train", CPU)
    labels = task_labels(view, pixels, torch.from_numpy(view.train_rows))
    assert [view.classes[label] for label in labels] == dataset.train_labels[view.train_rows].tolist()
    assert set(labels.tolist()) == set(range(5))


def test_pixels_are_normalised_by_channel(archive):
    dataset = load_dataset("cifar100", archive)
    view = task_view(SPLIT, dataset, 0, seed=0)
    found = images_at_test(SPLIT, view, to_device(dataset, "test", CPU), view.test_rows[:2])
    raw = dataset.test_images[view.test_rows[:2]] / 255
    mean, std = (np.array(values)[:, None, None] for values in (dataset.mean, dataset.std))
    np.testing.assert_allclose(found.numpy(), (raw - mean) / std, rtol=1e-5, atol=1e-5)


def test_validation_images_are_never_trained_on(archive):
    dataset = load_dataset("cifar100", archive)
    spec = BenchmarkSpec(kind="split", dataset="cifar100", num_tasks=20, validation=0.2, test_on="validation")
    view = task_view(spec, dataset, 4, seed=0)
    assert (len(view.train_rows), len(view.test_rows)) == (12, 3)
    assert not set(view.train_rows) & set(view.test_rows)
    whole = task_view(SPLIT, dataset, 4, seed=0)
    assert sorted([*view.train_rows, *view.test_rows]) == whole.train_rows.tolist()


def test_the_learning_rate_warms_up_and_falls_from_epoch_to_epoch(archive):
    dataset = load_dataset("cifar100", archive)
    view = task_view(SPLIT, dataset, 0, seed=0)  # 15 images
    training = TrainingSpec(epochs=10, batch_size=5, schedule=ScheduleSpec(warmup=2))
    assert num_steps(training, view) == 30
    shares = lr_shares(training, view)
    by_epoch = shares[::3]
    assert shares == [share for share in by_epoch for _ in range(3)]
    assert by_epoch[:2] == [0.5, 1.0]
    expected = [0.5 * (1 + np.cos(np.pi * epoch / 8)) for epoch in range(8)]
    assert by_epoch[2:] == pytest.approx(expected)
    assert lr_shares(TrainingSpec(steps=4), view) == [1.0] * 4


def test_random_boxes_lie_within_the_image():
    draw = np.random.default_rng(0)
    for width, height in ((500, 375), (60, 400), (3, 3), (1, 900)):
        for _ in range(50):
            left, top, right, bottom = _random_box(width, height, draw)
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kind": "split", "folder": "x"}, r"benchmark\.folder"),
        ({"kind": "split", "validation": 1.0}, r"benchmark\.validation"),
        ({"kind": "split", "test_on": "validation"}, r"benchmark\.test_on"),
        ({"kind": "split", "num_tasks": 21}, r"at most 20"),
    ],
)
def test_benchmarks_that_mean_nothing_are_refused(keys, words):
    with pytest.raises(ConfigError, match=words):
        BenchmarkSpec(**({"dataset": "cifar100", "num_tasks": 2} | keys))
