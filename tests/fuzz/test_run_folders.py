"""A finished run folder, changed in any way: commands answer as before or say what is wrong, and never fail themselves."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from core.errors import SupSupError
from orchestrator.runs.run import open_run
from storage import facts_index
from storage.locations import plain_file
from tests.conftest import supsup, sweep_text
from tests.fuzz.changes import Change, changes
from tests.fuzz.command import Ended, contents, told
from tests.fuzz.explore import explore

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]
SGD = "batch_size: 16, optimizer: {kind: sgd}"
KINDS = {
    "given": {
        "benchmark": "{kind: permuted, dataset: digits, num_tasks: 4}",
        "network": "{kind: mlp, hidden: [16], outputs: 16}",
        "evaluation": "{scenarios: [GG, GNu], at: [2, 4], batches: 3}",
    },
    "hopfield": {
        "benchmark": "{kind: split, dataset: digits, num_tasks: 3}",
        "network": "{kind: bn_mlp, hidden: [16, 16], outputs: 10}",
        "training": f"{{epochs: 1, {SGD}, cohort_size: 2}}",
        "evaluation": "{scenarios: [GG, GNs], batches: 2, hopfield: {batch_size: 16, lr: 200.0, gamma: 1.5e-2}}",
    },
    "stream": {
        "training": "{steps: 100, batch_size: 16, task_identity: none, optimizer: {kind: rmsprop, lr: 1.0e-2}}",
        "evaluation": "{scenarios: [NNs]}",
    },
    "transfer": {
        "mask": "{rule: top_k, density: 0.1}",
        "training": "{steps: 30, batch_size: 16, optimizer: {kind: adam, lr: 1.0e-2}, transfer: scores}",
    },
    "baseline": {
        "baseline": "{kind: psp}",
        "training": "{steps: 30, batch_size: 16, optimizer: {kind: adam, lr: 1.0e-2}}",
    },
}
IMAGE_SIDES = {"given": 8, "hopfield": 8, "stream": 6, "transfer": 6, "baseline": 6}
HERE = ("executor.kind=inline", "executor.retries=0", "tracking.uri=null")


GIVEN = ["--algorithm=one_shot", "--objective=H", "--json"]
COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status", "RUN"),
    "status in JSON": ("status", "RUN", "--json"),
    "all runs": ("status",),
    "plan": ("plan", "RUN", *HERE),
    "verify": ("verify", "RUN"),
    "a quick look": ("verify", "RUN", "--quick"),
    "infer": ("infer", "RUN", "IMAGE", *GIVEN),
    "a task given": ("infer", "RUN", "IMAGE", "--task=1", "--json"),
    "evaluate": ("evaluate", "RUN", *HERE, "--json"),
    "logs": ("logs", "RUN"),
    "export": ("export", "RUN", "--out", "OUT"),
    "run": ("run", "RUN", *HERE, "tracking.figures=false", "--json"),
    "repair": ("verify", "RUN", "--repair"),
}
READERS = ("status", "status in JSON", "all runs", "plan", "verify", "a quick look", "logs")
INDEX = "facts.parquet"  # may be written by whoever reads mask files


@dataclass(frozen=True)
class Whole:
    """A finished run that nothing has changed. answers: of ``ANSWERS``. masks: packed bits, by task."""

    root: Path
    image: Path
    masks: tuple[bytes, ...]
    answers: dict[str, Any]


def words_of(command: str, root: Path, image: Path) -> list[str]:
    """Return the words of a command about a run."""
    places = {"RUN": str(root), "IMAGE": str(image), "OUT": str(root.parent / "out")}
    home = [f"--storage={root.parent}"] if command == "all runs" else []
    return [places.get(word, word) for word in COMMANDS[command]] + home


def answer(command: str, root: Path, image: Path) -> Any:
    """Return what a command measures or infers, None if it refuses or fails."""
    ended = told(*words_of(command, root, image))
    if not ended.out:
        return None
    found = json.loads(ended.out)
    return found if command != "evaluate" else (ended.code, found["measured"], found["not_evaluated"])


def make_run(folder: Path, kind: str, **lines: str) -> Path:
    """Run a sweep in a folder and return the folder of the run."""
    path = folder / f"{kind}.yaml"
    path.write_text(sweep_text(folder / "runs", **({"name": kind} | KINDS[kind] | lines)))
    assert supsup("run", path) == 0
    (root,) = folder.glob("runs/*")
    return root


def add_records(root: Path) -> None:
    """Add files that only a run in trouble has."""
    failure = {
        "task": 1,
        "error": "lost its worker",
        "kind": "LostWorkerError",
        "attempts": 2,
        "failed_s": 1.5,
    }
    files = {
        "failures.json": json.dumps([failure]),
        "logs/supermasks-00001-00001.log": "failed on host",
        "quarantine/cohort-00000-00001.parquet": "bad",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content)


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def whole_run(folder: Path, kind: str) -> Whole:
    """Make a run with all the files that it can have."""
    image, side = folder / "image.npy", IMAGE_SIDES[kind]
    np.save(image, np.linspace(0, 1, side * side).reshape(side, side))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts_index, "LEAST_NEW", 1)
        patch.setattr(facts_index, "SETTLED_NS", 0)
        root = make_run(folder, kind)
        supsup("evaluate", root)
    if kind == "given":  # drawing takes seconds
        assert supsup("report", root) == 0
    answers = {command: answer(command, root, image) for command in ("infer", "evaluate")}
    return Whole(root, image, masks_of(root) or (), answers)


def masks_of(root: Path) -> tuple[bytes, ...] | None:
    """Return the bits of the first tasks, or None for an error of ours."""
    try:
        store = open_run(root)[0].store
        return tuple(mask.bits for mask in store.iterate(range(store.locate().num_leading)))
    except SupSupError:
        return None


@contextlib.contextmanager
def changed_copy(whole: Whole, made: Sequence[Change]) -> Iterator[Path]:
    """Yield a copy of a run with these changes, which is gone afterwards."""
    home = Path(tempfile.mkdtemp(dir=whole.image.parent))
    try:
        root = shutil.copytree(whole.root, home / "runs" / whole.root.name)
        add_records(root)
        for change in made:
            change.apply(root)
        yield root
    finally:
        shutil.rmtree(home)


def is_read(path: Path) -> bool:
    """Return whether a file is read again; of the figures one stands for all."""
    return path.is_file() and (path.suffix not in (".png", ".svg") or path.name == "accuracy.png")


def config_of(root: Path) -> Any:
    """Return the sweep in a run's record, None if it cannot be read."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return json.loads(plain_file(root / "run.json").read_bytes()).get("config")
    return None


def reads_alone(command: str, root: Path, image: Path) -> Ended:
    """Run a command that changes nothing, and check that it does not."""
    before = contents(root)
    ended = told(*words_of(command, root, image))
    after = contents(root)
    for found in (before, after):
        found.pop(INDEX, None)
    assert after == before, (
        f"{command} changed {[name for name in before if before[name] != after.get(name)]}"
    )
    return ended


def check_answers(whole: Whole, root: Path) -> None:
    """Check that what is inferred and measured is what the whole run gave."""
    for command, wanted in whole.answers.items():
        found = answer(command, root, whole.image)
        assert found in (None, wanted), f"{command}: {found}, expected {wanted}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_folder_answers_as_before_or_says_what_is_wrong(tmp_path, kind):
    whole = whole_run(new(tmp_path / "whole"), kind)
    other = make_run(new(tmp_path / "other"), kind, seed="4")

    def as_before_or_told(case: tuple[list[Change], list[str]]) -> None:
        made, commands = case
        with changed_copy(whole, made) as root:
            is_same = config_of(root) == config_of(whole.root)
            masks = masks_of(root) or ()
            assert masks == whole.masks[: len(masks)]
            code = reads_alone("verify", root, whole.image).code
            if code == 0 and is_same:
                check_answers(whole, root)
            for command in commands:
                if command in READERS:
                    reads_alone(command, root, whole.image)
                else:
                    told(*words_of(command, root, whole.image))

    files = sorted(str(path.relative_to(whole.root)) for path in whole.root.rglob("*") if is_read(path))
    foreign = [path for path in other.rglob("*") if path.is_file()]
    commands = st.lists(st.sampled_from(list(COMMANDS)), min_size=1, max_size=3)
    explore(as_before_or_told, st.tuples(changes(files, foreign), commands))
