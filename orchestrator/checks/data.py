"""The promises of a data set: the same images each time and in each process, and none to train on among the tests."""

import sys
from pathlib import Path

import numpy as np

from core.data.datasets import Dataset, load_dataset
from core.errors import DataError, plural
from core.own_code.elsewhere import ask_elsewhere, asked
from core.specs.benchmark import BenchmarkSpec
from orchestrator.checks import CheckOptions
from orchestrator.config.own_data import found_keys

CODE = "from orchestrator.checks.data import answer; answer()"


def check_data(name: str, options: CheckOptions) -> list[str]:
    """Check a data set. name: as in ``benchmark.dataset``. Raises ConfigError and DataError."""
    return _check({"kind": "split", "dataset": name, "num_tasks": 1, "classes_per_task": 1}, name, options)


def check_tasks(name: str, options: CheckOptions) -> list[str]:
    """Check the tasks of a module. name: as in ``benchmark.import_path``. Raises ConfigError and DataError."""
    return _check({"kind": "module", "import_path": name}, name, options)


def _check(keys: dict[str, object], name: str, options: CheckOptions) -> list[str]:
    found = {**keys, **found_keys(BenchmarkSpec(**keys), options.folder)}  # type: ignore[arg-type]  # checked by the class
    first, second = (load_dataset(_spec(found), options.folder) for _ in range(2))
    _same(name, first.digest(), second.digest(), "the second call")
    if _spec(found).own_code:
        _same(name, first.digest(), _digest_elsewhere(name, found, options), "another process")
    return [*_counts(first), *_tasks(first), *_warnings(first)]


def _spec(keys: dict[str, object]) -> BenchmarkSpec:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()}
    return BenchmarkSpec(**values)  # type: ignore[arg-type]  # checked by the class


def _same(name: str, first: str, other: str, where: str) -> None:
    if first != other:
        raise DataError(
            f"{name}: {where} made other data, digest {other[:16]}..., than the first, {first[:16]}...; expected the same: "
            "draw random numbers from a seed, and sort files, sets and mappings before use"
        )


def _digest_elsewhere(name: str, keys: dict[str, object], options: CheckOptions) -> str:
    """Return the digest that the data have in a process of their own, whose texts have other hashes."""
    folder = None if options.folder is None else str(options.folder)
    done = ask_elsewhere(CODE, {"keys": keys, "folder": folder})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"{name}: cannot be made in another process ({last[:300]})")
    return done.stdout.splitlines()[-1]


def answer() -> None:
    """Print the digest of the data that the question on stdin names; the other half of ``_digest_elsewhere``."""
    question = asked()
    folder = None if question["folder"] is None else Path(question["folder"])
    sys.stdout.write(load_dataset(_spec(question["keys"]), folder).digest() + "\n")


def _counts(data: Dataset) -> list[str]:
    sides = " x ".join(map(str, data.image_shape))
    labels = (data.train_labels, data.test_labels)
    fewest = [int(np.bincount(one, minlength=data.num_classes).min()) for one in labels]
    return [
        f"{data.num_classes} classes, {len(labels[0]):,} training and {len(labels[1]):,} test images of {sides}",
        f"at least {fewest[0]:,} training and {fewest[1]:,} test images of each class",
        f"the same data each time: digest {data.digest()[:16]}...",
    ]


def _tasks(data: Dataset) -> list[str]:
    if not data.parts:
        return []
    sizes = [part.num_classes for part in data.parts]
    return [f"{plural(len(sizes), 'task')} of {min(sizes)} to {max(sizes)} classes"]


def _warnings(data: Dataset) -> list[str]:
    if data.train_files:
        return []
    trained = {bytes(image) for image in data.train_images}
    num = sum(bytes(image) in trained for image in data.test_images)
    if not num:
        return ["no test image is a training image too"]
    share = num / len(data.test_images)
    return [
        f"warning: {num:,} test images ({share:.1%}) are training images too; accuracy on them says little"
    ]
