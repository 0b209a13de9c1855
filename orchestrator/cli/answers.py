"""``supsup infer``: answers for image files, as a table or as JSON."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from core.data.datasets import normalisation
from core.errors import ConfigError
from orchestrator.images import read_images
from orchestrator.predict import Answer, Classification, Predictor, local_predictor, sharded_predictor
from orchestrator.runs.run import open_run, require_run_code
from orchestrator.stages.gaps import unsearched
from storage.locations import Location

Named = tuple[str, Answer | Classification]


def answer_images(
    root: Location,
    paths: Sequence[Path],
    inference: Mapping[str, str],
    *,
    k: int | None,
    num_shards: int | None,
    task: int | None = None,
) -> list[Named]:
    """Return a name and an answer for each image; all files are read first.

    num_shards: Ray actors that hold the masks; None keeps them in this process. task: given, so that nothing
    is inferred.
    """
    _check_given(task, inference, k, num_shards)
    run, _ = open_run(root)
    require_run_code(run)
    benchmark = run.config.benchmark
    shape, (scale, _, _) = benchmark.image_shape, normalisation(benchmark)
    images = [(str(path), read_images(path, shape, scale)) for path in paths]
    with ExitStack() as stack:
        if num_shards is None:
            predictor = local_predictor(run, k, inference)
        else:
            predictor = stack.enter_context(sharded_predictor(run, num_shards, k, inference))
        return [named for name, rows in images for named in _answers(predictor, name, rows, task)]


def _answers(predictor: Predictor, name: str, rows: NDArray[np.float32], task: int | None) -> list[Named]:
    """Return the answers for the images of a file, inferring the task unless it is given."""
    found: Sequence[Answer | Classification] = (
        predictor.infer(rows) if task is None else predictor.classify(rows, task)
    )
    names = [name] if len(rows) == 1 else [f"{name}[{number}]" for number in range(len(rows))]
    return list(zip(names, found, strict=True))


def _check_given(
    task: int | None, inference: Mapping[str, str], k: int | None, num_shards: int | None
) -> None:
    """Raise ConfigError if a task is given together with options of a search."""
    chosen = {**inference, "k": k, "shards": num_shards}
    found = [f"--{name}" for name, value in chosen.items() if value is not None]
    if task is not None and found:
        raise ConfigError(
            f"--task: found {' and '.join(found)} as well; with the task given nothing is searched"
        )


def unsearched_tasks(root: Location) -> str | None:
    """Return, as text, which tasks of a run have no masks to search; None if all have."""
    return unsearched(open_run(root)[0])


def answers_json(answers: Sequence[Named]) -> str:
    """Return the answers as indented JSON: image, task, class, confidence, and best where the task was inferred."""
    return json.dumps([_plain(name, answer) for name, answer in answers], indent=2)


def print_answers(console: Console, answers: Sequence[Named]) -> None:
    """Print the answers as a table, one row per image."""
    is_searched = any(isinstance(answer, Answer) for _, answer in answers)
    others = ["next best tasks"] if is_searched else []
    name = Column("image", overflow="fold")
    table = Table(name, "task", "class", "confidence", *others, box=SIMPLE_HEAD)
    for image, answer in answers:
        row = [image, str(answer.task), str(answer.label), f"{100 * answer.confidence:.1f} %"]
        if isinstance(answer, Answer):
            row.append(", ".join(str(candidate.task) for candidate in answer.best[1:]))
        table.add_row(*row)
    console.print(table)


def _plain(name: str, answer: Answer | Classification) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "image": name,
        "task": answer.task,
        "class": answer.label,
        "confidence": answer.confidence,
    }
    if isinstance(answer, Answer):
        shown["best"] = [
            {"task": c.task, "class": c.label, "confidence": c.confidence, "value": c.value}
            for c in answer.best
        ]
    return shown
