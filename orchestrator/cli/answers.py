"""``supsup infer``: answers for image files, as a table or as JSON."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from core.data.datasets import normalisation
from orchestrator.images import read_images
from orchestrator.predict import Answer, local_predictor, sharded_predictor
from orchestrator.runs.run import open_run, require_run_code
from orchestrator.stages.gaps import unsearched
from storage.locations import Location

Named = tuple[str, Answer]


def answer_images(
    root: Location,
    paths: Sequence[Path],
    inference: Mapping[str, str],
    *,
    k: int | None,
    num_shards: int | None,
) -> list[Named]:
    """Return a name and an answer for each image; all files are read first.

    num_shards: Ray actors that hold the masks; None keeps them in this process.
    """
    run, _ = open_run(root)
    require_run_code(run)
    dataset = run.config.benchmark.dataset
    shape, (scale, _, _) = run.config.benchmark.image_shape, normalisation(dataset)
    images = [(str(path), read_images(path, shape, scale)) for path in paths]
    with ExitStack() as stack:
        if num_shards is None:
            predictor = local_predictor(run, k, inference)
        else:
            predictor = stack.enter_context(sharded_predictor(run, num_shards, k, inference))
        return [
            (name if len(rows) == 1 else f"{name}[{number}]", answer)
            for name, rows in images
            for number, answer in enumerate(predictor.infer(rows))
        ]


def unsearched_tasks(root: Location) -> str | None:
    """Return, as text, which tasks of a run have no masks to search; None if all have."""
    return unsearched(open_run(root)[0])


def answers_json(answers: Sequence[Named]) -> str:
    """Return the answers as indented JSON: image, task, class, confidence, best."""
    return json.dumps([_plain(name, answer) for name, answer in answers], indent=2)


def print_answers(console: Console, answers: Sequence[Named]) -> None:
    """Print the answers as a table, one row per image."""
    name = Column("image", overflow="fold")
    table = Table(name, "task", "class", "confidence", "next best tasks", box=SIMPLE_HEAD)
    for image, answer in answers:
        others = ", ".join(str(candidate.task) for candidate in answer.best[1:])
        table.add_row(image, str(answer.task), str(answer.label), f"{100 * answer.confidence:.1f} %", others)
    console.print(table)


def _plain(name: str, answer: Answer) -> dict[str, Any]:
    best = [
        {"task": c.task, "class": c.label, "confidence": c.confidence, "value": c.value} for c in answer.best
    ]
    return {
        "image": name,
        "task": answer.task,
        "class": answer.label,
        "confidence": answer.confidence,
        "best": best,
    }
