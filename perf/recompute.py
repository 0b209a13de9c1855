"""Compute a run's stored results again, from its Parquet files and MNIST alone: numpy and pyarrow, no code of this project.

For perceptrons on PermutedMNIST. W and the permutations are drawn by the recipe of storage/FORMAT.md. Accuracy
with the task given (GG) is compared with what the mask files say, and each table of one-shot inferences row by row:
the deciding image, the task it finds, and the images that are right.

    python perf/recompute.py RUN /path/to/data/mnist [--tasks 100] [--images 10000]
"""

import argparse
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

Array = NDArray[np.float32]
BATCH = 128  # test images that share one inferred task
NUM_CLASSES = 10


@dataclass(frozen=True)
class Network:
    """What the files say, and W drawn from it. names: of the layers. masks: bool [tasks, weights], all layers in a row."""

    seed: int
    shapes: list[tuple[int, int]]
    weights: list[Array]
    masks: NDArray[np.bool_]
    accuracies: NDArray[np.float64]

    def layers(self, values: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Split values of all weights into one matrix per layer."""
        parts = np.split(values, np.cumsum([out * inputs for out, inputs in self.shapes])[:-1], axis=-1)
        return (part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True))

    def masked(self, mask: NDArray[Any]) -> list[Array]:
        """Return W under a mask, or under a mean of masks."""
        return [w * m for w, m in zip(self.weights, self.layers(mask.astype(np.float32)), strict=True)]


@dataclass(frozen=True)
class Table:
    """A table of one-shot inferences among the first k tasks. drawn: whether the deciding images were drawn."""

    scenario: str
    objective: str
    drawn: bool
    k: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """What a row says, computed here."""

    deciding_image: int
    inferred_task: int
    num_correct: int


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a stream of the run: Philox, with a key from sha256."""
    digest = hashlib.sha256("/".join(map(str, ("supsup", seed, *purpose))).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def read_network(run: Path) -> Network:
    """Return the masks in a run folder and the network they belong to; the digests of both are checked."""
    files = sorted(run.glob("masks/*.parquet"))
    metadata = pq.read_schema(files[0]).metadata
    network, layers = json.loads(metadata[b"supsup.network"]), json.loads(metadata[b"supsup.layers"])
    shapes = [tuple(layer["shape"]) for layer in layers]
    weights = draw_weights(network["seed"], shapes)
    joined = b"".join(w.tobytes() for w in weights)
    assert hashlib.sha256(joined).hexdigest() == network["digest"], "W is not that of the run"
    rows = sorted(
        (row for file in files for row in pq.read_table(file).to_pylist()), key=lambda row: row["task"]
    )
    assert [row["task"] for row in rows] == list(range(len(rows))), "a mask is missing"
    return Network(
        seed=network["seed"],
        shapes=shapes,
        weights=weights,
        masks=np.stack([read_mask(row, shapes) for row in rows]),
        accuracies=np.array([row["test_accuracy"] for row in rows]),
    )


def read_table(path: Path) -> Table:
    """Return a table of one-shot inferences."""
    said = {key.decode(): value.decode() for key, value in pq.read_schema(path).metadata.items()}
    return Table(
        scenario=said["supsup.scenario"],
        objective=said["supsup.objective"],
        drawn="-drawn" in path.name,
        k=int(said["supsup.k"]),
        rows=pq.read_table(path).to_pylist(),
    )


def draw_weights(seed: int, shapes: list[tuple[int, int]]) -> list[Array]:
    """Return W: +c or -c, with c = sqrt(2 / inputs), one generator for all layers in order."""
    draw, weights = generator(seed, "weights"), []
    for shape in shapes:
        c = np.float32(np.sqrt(2 / shape[1]))
        weights.append(np.where(draw.integers(0, 2, size=shape, dtype=np.uint8) == 1, c, -c))
    return weights


def read_mask(row: dict[str, Any], shapes: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return one mask, bool [weights]: each layer starts at a byte of its own."""
    assert hashlib.sha256(row["bits"]).hexdigest() == row["digest"], (
        f"task {row['task']}: the bits are damaged"
    )
    packed, start, parts = np.frombuffer(row["bits"], np.uint8), 0, []
    for out, inputs in shapes:
        stop = start + -(-out * inputs // 8)
        parts.append(np.unpackbits(packed[start:stop], count=out * inputs, bitorder="little"))
        start = stop
    return np.concatenate(parts).astype(bool)


def read_mnist(folder: Path) -> tuple[Array, NDArray[np.uint8]]:
    """Return MNIST's test images, normalised, float32 [10000, 784], and labels."""
    pixels, labels = (
        np.frombuffer(
            gzip.decompress((folder / f"t10k-{name}-ubyte.gz").read_bytes()), np.uint8, offset=offset
        )
        for name, offset in (("images-idx3", 16), ("labels-idx1", 8))
    )
    return ((pixels.reshape(-1, 784) / 255 - 0.1307) / 0.3081).astype(np.float32), labels


def inputs_of_layers(weights: list[Array], images: Array) -> list[Array]:
    """Return what enters each layer, and the logits at the end."""
    passed = [images]
    for number, w in enumerate(weights):
        passed.append(passed[-1] @ w.T)
        if number < len(weights) - 1:
            passed[-1] = np.maximum(passed[-1], 0)
    return passed


def find_tasks(network: Network, masks: Array, images: Array, objective: str) -> NDArray[np.int64]:
    """Return for each image the task whose coefficient lowers the objective most (one-shot): gradients by hand.

    masks: of the tasks to choose from, 0 or 1, [tasks, weights].
    """
    superposed = network.masked(masks.mean(axis=0, dtype=np.float64))
    passed = inputs_of_layers(superposed, images)
    exp = np.exp(passed[-1] - passed[-1].max(axis=1, keepdims=True))
    p = exp / exp.sum(axis=1, keepdims=True)
    if objective == "G":
        delta = np.where(np.arange(p.shape[1]) < NUM_CLASSES, 0, p)
    else:
        log_p = np.log(np.maximum(p, np.finfo(np.float32).tiny))
        delta = -p * (log_p - (p * log_p).sum(axis=1, keepdims=True))
    slopes, column = np.zeros((len(images), len(masks)), np.float32), masks.shape[1]
    for number in reversed(range(len(superposed))):
        w, size = network.weights[number], network.weights[number].size
        by_weight = delta[:, :, None] * passed[number][:, None, :] * w
        slopes += by_weight.reshape(len(images), size) @ masks[:, column - size : column].T
        column -= size
        if number:
            delta = (delta @ superposed[number]) * (passed[number] > 0)
    return slopes.argmin(axis=1)


@dataclass(frozen=True)
class Task:
    """A task's test images as its network sees them, float32 [N, 784], and their labels."""

    number: int
    inputs: Array
    labels: NDArray[np.uint8]


def task_of(network: Network, number: int, images: Array, labels: NDArray[np.uint8]) -> Task:
    """Return a task of PermutedMNIST: the same permutation of pixels for all of its images."""
    return Task(number, images[:, generator(network.seed, "permutation", number).permutation(784)], labels)


def is_right(network: Network, mask: int, task: Task, images: slice) -> NDArray[np.bool_]:
    """Return which images the network classifies correctly under a mask."""
    logits = inputs_of_layers(network.masked(network.masks[mask]), task.inputs[images])[-1]
    return np.asarray(logits.argmax(axis=1) == task.labels[images])


def deciding_image(network: Network, row: dict[str, Any], table: Table) -> int:
    """Return the image that decides for a test batch: its first, or one that is drawn."""
    first, draw = int(row["first_image"]), generator(network.seed, "deciding", row["task"], row["batch"])
    return first + int(draw.permutation(row["num_images"])[0]) if table.drawn else first


def answers(
    network: Network, masks: Array, task: Task, rows: list[dict[str, Any]], table: Table
) -> Iterator[Answer]:
    """Yield an answer for each row of a task."""
    deciding = [deciding_image(network, row, table) for row in rows]
    inferred = find_tasks(network, masks, task.inputs[deciding], table.objective)
    for row, image, found in zip(rows, deciding, inferred.tolist(), strict=True):
        batch = slice(row["first_image"], row["first_image"] + row["num_images"])
        counts = table.scenario == "GNs" or found == task.number  # in GNu only the right task counts
        num_correct = int(is_right(network, found, task, batch).sum()) if counts else 0
        yield Answer(image, found, num_correct)


def compare_accuracies(network: Network, tasks: list[Task]) -> None:
    """Print the accuracy with the task given, here and stored."""
    found = np.array([is_right(network, task.number, task, slice(None)).mean() for task in tasks])
    stored, num_images = network.accuracies[: len(tasks)], len(tasks[0].labels)
    differ = np.rint(np.abs(found - stored) * num_images)
    print(f"GG, {len(tasks)} tasks: {100 * found.mean():.4f} % here, {100 * stored.mean():.4f} % stored")
    print(f"  equal: {np.sum(differ == 0)} tasks; the others differ by at most {differ.max():.0f} images")


def compare_table(network: Network, path: Path, tasks: list[Task]) -> None:
    """Print what the rows of a table of one-shot inferences say, here and stored."""
    table = read_table(path)
    masks = network.masks[: table.k].astype(np.float32)
    rows = [[row for row in table.rows if row["task"] == task.number] for task in tasks[: table.k]]
    pairs = [
        (row, answer)
        for task, its_rows in zip(tasks, rows, strict=False)
        for row, answer in zip(its_rows, answers(network, masks, task, its_rows, table), strict=True)
    ]
    num_images = sum(row["num_images"] for row, _ in pairs)
    here = sum(answer.num_correct for _, answer in pairs) / num_images
    stored = sum(row["num_correct"] for row, _ in pairs) / num_images
    print(f"{path.name}, {len(rows)} tasks: {100 * here:.4f} % here, {100 * stored:.4f} % stored")
    print(f"  inferences: {len(pairs)}")
    for name in ("deciding_image", "inferred_task", "num_correct"):
        print(f"  equal {name}: {sum(getattr(answer, name) == row[name] for row, answer in pairs)}")


def main() -> None:
    """Compare everything in a run folder that this script can compute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("mnist", type=Path, help="the folder with MNIST's four files")
    parser.add_argument("--tasks", type=int, help="only the first tasks; default: all")
    options = parser.parse_args()
    network, (images, labels) = read_network(options.run), read_mnist(options.mnist)
    numbers = range(len(network.masks))[: options.tasks]
    tasks = [task_of(network, number, images, labels) for number in numbers]
    compare_accuracies(network, tasks)
    for path in sorted(options.run.glob("evaluations/G*-one_shot-[GH]-1*.parquet")):
        compare_table(network, path, tasks)


if __name__ == "__main__":
    main()
